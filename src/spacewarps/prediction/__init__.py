"""What a final network answers for a survey whose classes nobody knows."""

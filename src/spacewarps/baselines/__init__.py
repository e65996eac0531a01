"""What else learns from the same samples, so that there is something to compare the network with."""

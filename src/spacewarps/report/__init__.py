"""The page and the card that show a result: one file each, from the same facts."""

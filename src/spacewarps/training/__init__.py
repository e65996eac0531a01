"""How one network learns, on one device, to the bit."""

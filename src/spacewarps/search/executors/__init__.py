"""Where candidates are evaluated: in this process, in others on this machine, on a Ray cluster."""

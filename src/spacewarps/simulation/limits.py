"""How many rows the demo survey may have; apart, as reading params should not wait for what draws stamps."""

MIN_SAMPLES = 60
"""Fewer rows than this cannot hold every fault of a real delivery."""

MAX_SAMPLES = 300_000
"""With more rows than this the regions grow into each other."""

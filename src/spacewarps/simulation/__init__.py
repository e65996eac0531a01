"""The demo survey, which has the faults of a real one."""

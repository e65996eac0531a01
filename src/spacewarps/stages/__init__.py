"""One module for each DVC stage: the only place that knows params and paths."""

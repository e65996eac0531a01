"""How good a network is: metrics, intervals, baselines, pictures, report."""

"""Training: jobs, stages, the loop."""

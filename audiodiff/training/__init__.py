"""Training: configurations, models with their losses, the loop, checkpoints and resume."""

"""Training: configuration, the closed-form baseline, losses, the run, evaluation."""

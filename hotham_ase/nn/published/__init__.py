"""The published architecture, for comparison and for checkpoints that exist."""

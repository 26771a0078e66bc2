"""Accuracy for the time at hand, on real DFT data."""

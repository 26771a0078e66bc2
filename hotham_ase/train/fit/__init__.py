"""What is fitted in closed form, before and after the training."""

"""How well a model predicts: errors, their statistics, figures and the report."""

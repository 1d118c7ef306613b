"""Training over a labelled dataset: features once, then epochs over them. `cops.training` holds the arithmetic."""

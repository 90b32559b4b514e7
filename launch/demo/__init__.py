"""From nothing to a trained model's scores and weights, in minutes."""

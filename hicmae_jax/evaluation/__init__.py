"""Scores and pictures of a pre-trained model on held-out clips: retrieval and reconstruction."""

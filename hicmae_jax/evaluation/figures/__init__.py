"""Figures of a run and its scores."""

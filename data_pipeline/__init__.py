"""Turns raw clips into batches for each host; imports no model code."""

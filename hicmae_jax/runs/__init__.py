"""A run put together, and its loop."""

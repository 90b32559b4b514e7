"""Atomic files, errors, settings and worker processes, for every package."""

"""Atomic files, cores, errors, paths, settings and worker processes, for every package."""

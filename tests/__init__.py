"""Tests; their folders are those of the packages. What several of them use is in `tests.support`."""

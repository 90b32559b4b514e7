"""Turns clips into shards."""

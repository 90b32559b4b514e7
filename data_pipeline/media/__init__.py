"""Decoding, encoding, log-mel."""

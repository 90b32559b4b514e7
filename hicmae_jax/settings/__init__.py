"""A configuration file becomes checked dataclasses."""

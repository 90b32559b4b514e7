"""Compile a train step for devices that this machine does not have, and count what the program costs."""

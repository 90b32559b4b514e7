"""Compile the step for devices that are not here, and read what the program says."""

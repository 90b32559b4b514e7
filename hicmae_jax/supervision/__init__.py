"""What watches one process: signals, hangs, losses that are not finite."""

"""What is optimised: targets, reconstruction, contrast."""

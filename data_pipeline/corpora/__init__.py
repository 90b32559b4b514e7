"""The layouts of the data sets."""

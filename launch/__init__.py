"""The command lines of the library."""

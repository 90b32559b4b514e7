"""The bytes and directories of a prepared set."""

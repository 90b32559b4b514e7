"""Studies of many runs: lists of commands, each done once, that can be resumed."""

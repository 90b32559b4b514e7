"""Many runs: lists of commands, each done once."""

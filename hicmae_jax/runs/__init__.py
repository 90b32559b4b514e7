"""Runs: `pretrain` is one kind, `session` and `loop` are what every kind shares."""

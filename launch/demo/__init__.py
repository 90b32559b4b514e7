"""The demo: the whole workflow, from made-up clips to scores and exported weights, in minutes."""

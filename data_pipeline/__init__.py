"""From raw clips to per-host batches; imports no model code."""

"""From clips to shards."""

"""Speed figures, each a ratio within one run."""

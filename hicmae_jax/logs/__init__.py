"""What a run writes down: metrics, events, versions."""

"""Pictures of runs and scores."""

"""The logs of a run: metrics, events, versions."""

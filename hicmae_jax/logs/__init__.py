"""The logs of a run: metrics, events, versions, and the account of its time."""

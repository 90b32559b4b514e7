"""The update: optimiser, schedule, sharding, accumulation. It knows no model and no data."""

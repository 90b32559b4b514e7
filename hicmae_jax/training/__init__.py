"""The update of a model: optimiser, schedule, sharding and accumulation, for any model and any data."""

"""From a host batch to the model's inputs, on the device."""

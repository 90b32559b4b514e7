"""From a host batch to model inputs, on the device: crop, resize, log-mel features, masks."""

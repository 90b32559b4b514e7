"""Turns a host batch into model inputs on the device: crop, resize, log-mel features, masks."""

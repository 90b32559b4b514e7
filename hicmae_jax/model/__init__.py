"""The network: configuration, layers, masks, initial parameters, shapes and FLOPs."""

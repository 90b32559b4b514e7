"""The network: its sizes, layers, masks, parameters and arithmetic."""

"""Weight files, and the exchange of weights with PyTorch."""

"""Files of an exported folder that let `transformers` load it."""

"""Files of weights: read, written, converted, shared."""

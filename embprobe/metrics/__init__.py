"""Pure functions on features and probabilities; tensors in, numbers out."""

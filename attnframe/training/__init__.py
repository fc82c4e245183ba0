"""The training loop around a model: the only folder that knows Lightning and Weights & Biases."""

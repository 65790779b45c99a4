"""The model buyer: orders a training, pays for it, holds its key and receives the model."""

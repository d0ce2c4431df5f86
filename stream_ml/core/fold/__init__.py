"""The fold: a model, its quality and its sequences as a function of a prefix of the training log."""

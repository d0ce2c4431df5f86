"""Following the training log: read it, fold it, checkpoint it. A worker, and whoever else wants the model."""

"""The scoring API: a read replica of the training log that answers over HTTP."""

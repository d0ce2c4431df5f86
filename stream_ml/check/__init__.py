"""``stream-ml check``: everything that can be known before a worker runs."""

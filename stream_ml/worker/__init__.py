"""The loop and what drives the core: the only place that sees both Kafka and the core.

Read loop.py first; ownership.py takes partitions up, learning.py folds the training log.
"""

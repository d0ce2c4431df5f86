"""The loop and what drives the core: the only place that sees both Kafka and the core.

Read loop.py first; assignment.py takes partitions up, follower/ folds the training log.
"""

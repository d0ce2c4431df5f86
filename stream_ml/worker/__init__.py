"""The loop and what drives the core: the only place that sees both Kafka and the core.

Read loop.py first. partitions/ takes partitions up and lets them go, report/ says how it goes, follower/ folds the
training log.
"""

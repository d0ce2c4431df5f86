"""A judge of the topics that asks none of the service's counters: read audit.py first."""

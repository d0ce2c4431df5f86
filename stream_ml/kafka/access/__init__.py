"""Whom Kafka lets in: certificates of its clients, and what is said where it refuses."""

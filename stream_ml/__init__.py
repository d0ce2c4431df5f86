"""Online learning from Kafka: score events, learn from their labels, exactly once."""

__version__ = "0.1.0"

"""The same core without Kafka."""

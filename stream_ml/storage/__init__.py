"""What outlives a process outside Kafka: checkpoints."""

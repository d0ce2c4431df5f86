"""What is written to Kafka: transactions, the progress of a work, commands to all replicas."""

"""The core without Kafka, with the bits of a worker."""

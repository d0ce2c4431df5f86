"""The development Kafka, which the demo and the tests run on; no part of the service needs it."""

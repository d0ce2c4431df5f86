"""What operators do to an app through Kafka: commands, offsets, redriving, producing, decoding."""

"""What a log has been: read from its beginning or a checkpoint on, with no place in the present."""

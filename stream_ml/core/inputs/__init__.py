"""Which event or which label a record is: ids, times, features and labels, or a dead letter."""

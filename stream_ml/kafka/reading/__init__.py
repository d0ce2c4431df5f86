"""Reading topics by offset: ranges, the training log, the newest records, and what cannot be unpacked."""

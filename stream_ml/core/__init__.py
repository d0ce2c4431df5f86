"""What stream_ml is made of, as values: bytes and values in, values out; no I/O (held by import-linter)."""

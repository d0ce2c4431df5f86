"""What stream_ml is made of, as values: bytes and values in, values out; no I/O (held by import-linter)."""

from stream_ml.deferred import defer_imports

defer_imports()

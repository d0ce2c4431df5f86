"""HTTP: from bytes of a connection to a request that may be answered, and from an answer back to bytes."""

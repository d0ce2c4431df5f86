"""Each parser of what somebody else may have written, under mutated input, for a bounded time."""

"""What a process does to itself: hash seed, imports put off, memory, fail points. Nothing happens at import."""

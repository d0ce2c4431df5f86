"""The partitions of one worker: what the group gives, what is owned, and how one is restored after a crash."""

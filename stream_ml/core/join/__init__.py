"""Which event a label belongs to: the join of one partition, what waits in it, and its time."""

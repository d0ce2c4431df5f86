"""What one worker says of itself: its status, its gauges, its signals."""

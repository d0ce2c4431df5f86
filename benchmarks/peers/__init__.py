"""Peers of the service, each a program that runs in an environment of its own: it imports nothing of stream_ml."""

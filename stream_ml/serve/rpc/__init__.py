"""Scoring over gRPC."""

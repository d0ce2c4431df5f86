"""The service beside the physical limit and its peers: ``python -m benchmarks`` from the repository's root."""

"""The document of the API (OpenAPI), and what it says of events, labels, tensors and jobs."""

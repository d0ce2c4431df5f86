"""The verbs of the scoring API."""

"""A timeline of score and learn over the past, and any number of specifications on it."""

"""Files scored by one version of a model."""

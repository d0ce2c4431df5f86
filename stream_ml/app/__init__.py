"""From a configuration to the parts of the core: schemas, features, labels, the model."""

"""What the model says: a River estimator scored and taught, checked before it may learn, named by its lineage."""

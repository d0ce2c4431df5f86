"""A model in the formats of others: ONNX, MLflow, and plain JSON for people."""

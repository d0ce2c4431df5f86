"""How good what was served has been: over the whole life of a model, and over windows."""

"""Who may ask, how much, and how it is told: the same whatever a request comes by."""

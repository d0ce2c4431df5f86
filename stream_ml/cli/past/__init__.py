"""The verbs about what has been: replay, explain; and predict, which scores files."""

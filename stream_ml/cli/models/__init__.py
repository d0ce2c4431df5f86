"""Verbs about models: which there are, who serves, and what a model is folded into beforehand."""

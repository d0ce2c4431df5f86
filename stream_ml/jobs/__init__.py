"""Scores jobs: a member of a group of runners, each with a model of its own."""

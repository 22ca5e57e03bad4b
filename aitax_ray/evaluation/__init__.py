"""Evaluation: how good the classifier is on what it has not seen. The `evaluate` stage."""

"""Evaluation: measures the classifier on photographs that training has not used. The `evaluate` stage."""

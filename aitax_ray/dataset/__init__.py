"""Dataset: which photograph is used for what. The `split` stage."""

"""Training: model, transforms, loop. The `train` stage."""

"""Engine: all that production needs, in one folder that describes itself. The `publish` stage."""

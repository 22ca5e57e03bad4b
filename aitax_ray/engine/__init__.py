"""Engine: one folder with everything that a service needs, which describes itself. The `publish` stage."""

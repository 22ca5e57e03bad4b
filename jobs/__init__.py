"""One thin entry point a stage, for Ray jobs. Each is the command of the same name."""

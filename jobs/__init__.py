"""One entry point per stage, for Ray jobs. Each runs the command of the same name."""

"""Serving: an engine behind HTTP, on Ray Serve."""

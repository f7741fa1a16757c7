"""Serve an index over HTTP: a search page, an API, and user feedback stored for training."""

"""A project's folder: its paths, and models, rankings and galleries by name."""

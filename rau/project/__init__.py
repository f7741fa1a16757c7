"""A project in its folder: its paths, and models, rankings and galleries that are named."""

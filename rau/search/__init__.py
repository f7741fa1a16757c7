"""Search over a gallery with a trained head."""

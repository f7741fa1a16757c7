"""Images and texts to cached feature tables."""

"""The page of results: figures, picture strips, tables."""

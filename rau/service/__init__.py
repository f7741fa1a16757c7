"""An index served over HTTP: a page to search with, an API, and answers kept for training."""

"""Queries and a gallery as rows of features, ranked and measured."""

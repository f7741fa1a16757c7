"""Data sets: each module knows one layout or draws one set."""

"""Pages of results: tables, figures, image strips."""

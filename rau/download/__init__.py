"""Images and annotation files from their sources, resumable."""

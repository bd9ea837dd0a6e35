"""Face boxes: their geometry, files, sources, comparison and review."""

"""Face boxes: their geometry, files, sources, detection, comparison and review."""

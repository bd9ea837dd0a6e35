"""Tables of poses: reading them from any file, and writing them in another convention or camera."""

"""Video files and their annotations: the ground layer, which imports nothing above it."""

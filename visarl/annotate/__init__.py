"""The page on which people click what matters in a few frames, and the server behind it."""

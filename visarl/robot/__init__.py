"""Arms and cameras: what they are to the rest, the real ones, and the limits on motion."""

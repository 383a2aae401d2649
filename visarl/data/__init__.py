"""Bags, episode files and annotations: what is recorded, and what training reads."""

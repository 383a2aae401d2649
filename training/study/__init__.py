"""Comparisons that end in a results page: what to run, running it in parallel, figures, page."""

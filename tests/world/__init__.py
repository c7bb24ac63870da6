"""A small world of drawn pictures, and an SDXL of a few million weights that is truly trained on it."""

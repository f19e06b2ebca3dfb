"""Layers and maths that several methods share, and large parts of single methods."""

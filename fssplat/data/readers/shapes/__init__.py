"""Which pixels does a region cover? Polygons, discs, pasted masks and run-length encodings."""

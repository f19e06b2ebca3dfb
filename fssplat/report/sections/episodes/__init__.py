"""Why do episodes differ? Causes of wrong pixels, sizes of objects, other supports, more shots."""

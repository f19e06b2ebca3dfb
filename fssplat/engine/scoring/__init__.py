"""How is it scored? Episodes in, pixel counts and metrics out."""

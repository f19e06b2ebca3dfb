"""How does a model answer over HTTP? Supports are registered by name, then pictures are sent."""

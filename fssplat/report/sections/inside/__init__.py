"""What do the networks compute inside? Their models are opened and run on a few episodes."""

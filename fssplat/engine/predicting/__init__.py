"""How is one image segmented? A model is the files of a finished training."""

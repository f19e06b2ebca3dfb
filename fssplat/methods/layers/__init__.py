"""What do several methods share? Layers and maths under their own names."""

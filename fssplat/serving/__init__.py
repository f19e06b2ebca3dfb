"""How do others use a model? Mark an object in a few images, and find it in all the others."""

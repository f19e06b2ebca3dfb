"""How does a report become files? One module per format, all from the same parts."""

"""How is a prediction written? One module per format; `data.readers` reads each one back."""

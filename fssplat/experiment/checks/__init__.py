"""What is wrong with the text and the values that a person wrote? One line with keys and hints."""

"""How are numbers drawn? matplotlib figures in one style, and their files."""

"""What is kept of each episode beside its counts? Masks, wrong pixels by cause, support sizes."""

"""What does the store keep of each episode of a trial? Predicted masks."""

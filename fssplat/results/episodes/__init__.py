"""What does the store keep of each episode of a trial? Its masks, and which pixels are wrong."""

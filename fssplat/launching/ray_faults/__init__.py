"""What can be wrong with Ray itself: its address, its folder, its end under a launch."""

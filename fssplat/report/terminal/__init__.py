"""What does a terminal show of the results? Tables that fit its width."""

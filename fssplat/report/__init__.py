"""What does the reviewer read? Tables, intervals, published results, plots."""

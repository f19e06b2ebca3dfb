"""What does a reader of the results see? Tables, intervals, published results, plots."""

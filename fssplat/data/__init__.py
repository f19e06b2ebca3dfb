"""What does the network see? Shards and their index, folds, labels, batches."""

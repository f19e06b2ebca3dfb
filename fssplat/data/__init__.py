"""What does the network see? Shards and their index, folds, episodes, batches."""

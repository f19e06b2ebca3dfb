"""Is the data what it should be? Reading it again, auditing the training, counting images."""

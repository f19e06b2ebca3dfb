"""What do the episodes look like? Supports, query, truth and predictions of a few of them."""

"""What is tuned? Optuna searches over loss weights, momentum terms and options."""

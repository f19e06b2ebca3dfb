"""How is MLflow reached? Its address, its checks, and calls that may not be answered."""

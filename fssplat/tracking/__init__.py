"""What does MLflow show? Runs, metrics, artefacts and models; never the only copy."""

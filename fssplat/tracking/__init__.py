"""What does MLflow hear? Runs, metrics, artefacts and models; never the only copy."""

"""What does MLflow show? Runs, metrics, artefacts and models; the store has them all."""

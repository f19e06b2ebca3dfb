"""How is it trained and scored? Knows neither Ray nor MLflow: it emits events."""

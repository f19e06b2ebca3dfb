"""How is it trained and scored? Uses neither Ray nor MLflow: it emits events."""

"""What is finished? The result store: files, claims, states, records."""

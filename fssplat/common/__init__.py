"""What does everybody need? Errors, locks, whole-file writes, passwords."""

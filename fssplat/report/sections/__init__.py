"""What does each chapter of a report say? One module each, from the evidence to its parts."""

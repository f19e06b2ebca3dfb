"""What does a reader of the results see? Tables in a terminal, and a report of pages and files."""

"""What is a report made of? Sections with text, tables, figures and pictures, in no format yet."""

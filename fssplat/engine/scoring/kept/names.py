"""Names for writers and readers: files of masks and details, and causes of wrong pixels."""

PREDICTIONS, DETAILS = "predictions.parquet", "details.parquet"
PARTS = ("missed", "boundary", "base", "other")  # defined in details.py

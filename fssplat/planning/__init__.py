"""What will run, at what cost? Jobs that are left, their predicted time and order."""

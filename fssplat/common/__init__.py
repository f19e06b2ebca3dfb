"""What do all packages need? Errors, locks, whole files, disk space, databases, passwords."""

"""What a launch shows while it runs: its jobs, and the time that is left."""

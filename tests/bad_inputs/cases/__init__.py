"""Which inputs cannot be right? One module per area, each with a list `CASES`."""

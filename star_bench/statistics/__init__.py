"""Numbers about numbers, on numpy alone."""

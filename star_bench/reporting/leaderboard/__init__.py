"""All runs of a suite beside each other: which may be ranked together, how sure the ranks are, and their page."""

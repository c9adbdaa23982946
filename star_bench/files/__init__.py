"""How bytes are written and read: whole or not at all, within bounds, by their digests."""

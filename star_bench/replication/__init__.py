"""Published numbers, measured again: a plan of rows goes in, a ledger with a verdict for each comes out."""

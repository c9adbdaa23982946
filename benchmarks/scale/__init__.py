"""What star-bench costs and holds at any number of checkpoints: a cost model, and 1,000 synthetic runs."""

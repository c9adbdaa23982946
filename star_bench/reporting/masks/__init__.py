"""Allocation maps drawn: sheets of rollouts, and the maps of a run's own pictures by step."""

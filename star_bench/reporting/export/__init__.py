"""A finished run in other people's formats: one file each."""

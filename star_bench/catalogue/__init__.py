"""What can be asked for: models, suites, protocols, parts by name, and what each may be used for."""

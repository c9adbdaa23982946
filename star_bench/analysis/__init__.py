"""What finished runs say beside each other: decisions, with their noise, before anything is drawn."""

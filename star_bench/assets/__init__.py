"""What lies on this machine: weights, prompt files, repositories; found, fetched, checked by digest."""

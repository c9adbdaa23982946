"""Two or more models on one suite: what may be compared, the differences, and the page of the pictures that flipped."""

"""The images of a run, as the run page and the comparison page show them."""

"""One file for each zoo of the literature that `python -m experiments.build_zoo` recreates."""

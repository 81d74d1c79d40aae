"""Understanding weights: move along symmetries, optimise with them, compare networks up to them."""

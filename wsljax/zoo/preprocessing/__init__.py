"""Populations made ready for learning: normalised, cut into tokens, split."""

"""Parameter graphs as index arrays, so that networks of any shapes go through one program together."""

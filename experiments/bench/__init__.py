"""Measurements, each against a reference in the same file; one JSON line per case."""

"""Tests; they mirror `wsljax/`."""

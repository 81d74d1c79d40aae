"""One runnable script per study. Nothing in the library imports from here."""

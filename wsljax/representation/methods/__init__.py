"""Metanetworks of the literature, one file a method, all with one interface (see :mod:`.trunk`)."""

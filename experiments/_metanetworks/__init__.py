"""What the studies of metanetworks share: populations, training of a method, tables."""

"""Features: arrays with the indices of the blocks of a network, how they are stacked, tied and read."""

"""What builds the zoos of `configs/zoo`: tasks, data, hyperparameters, copies, the builder."""

"""Training populations: many networks in one computation, each with hyperparameters of its own."""

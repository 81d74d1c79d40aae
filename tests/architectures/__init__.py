"""Networks with hand-derived symmetry groups, in the spelling of each framework."""

"""What the studies of generated networks share: zoos with their splits, scores and tables."""

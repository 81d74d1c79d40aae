"""What every metanetwork should be compared with: weight statistics and plain predictors."""

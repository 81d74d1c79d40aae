"""What scales and signs do to features: charges, frames, and the layers that respect them."""

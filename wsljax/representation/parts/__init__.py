"""What stands around equivariant layers: embedding, readout, norms, pools."""

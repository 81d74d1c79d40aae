"""Methods, one file each: what is particular to them."""

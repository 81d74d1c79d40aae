"""How :func:`wsljax.symmetry.infer` works: ports and values, the walk, classes, merging, nesting, annotation."""

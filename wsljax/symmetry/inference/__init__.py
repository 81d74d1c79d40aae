"""How :func:`wsljax.symmetry.infer` works.

Ports and values, the walk over a trace, classes of coordinates, merging, nesting, annotation.
"""

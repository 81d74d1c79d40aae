"""``completeness``: how much of what may be changed do the generators of a spec explain?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .generators.directions import jacobian, row_space, spanned, tangents
from .generators.probe import CannotProbe, Probe
from .spec import Spec

LARGEST = 6000
"""Parameters of the largest network that is looked at: the matrix is dense."""


class Completeness(NamedTuple):
    """``explained`` dimensions of the ``nullity``: directions that change no output to first order."""

    explained: int
    nullity: int


def completeness(
    fn: Callable, params: Any, spec: Spec, *inputs: Any, draws: int | None = None
) -> Completeness:
    """The dimension of the orbit of a spec's group, beside that of all that leaves the function alone.

    The nullity is that of the Jacobian of the outputs with respect to the parameters, at the given
    parameters and over many random inputs, in float64: it knows nothing of how generators are found.
    Explained is the rank of the directions in which the continuous generators move these parameters, so
    directions that two generators share, or that leave the parameters where they are, count once or not
    at all.

    What depends on the parameters at hand is no group, and enlarges the nullity: dead units, and ReLU units
    that are always on; what a layer adds outside of all that later layers read (a linear layer in front of
    a narrower one), and what it would read from where nothing arrives (behind a narrower one); data with
    little in them, such as the one constant query of a class token.

    Args:
        fn: the function ``fn(params, *inputs)``.
        params: where to look; for a statement about the architecture, a generic point.
        spec: with the generators in question.
        *inputs: examples of the inputs; others are drawn around them.
        draws: number of inputs; by default as many as give three outputs for each parameter.

    Raises:
        ValueError: if params do not match the spec, are too many, or the function cannot be evaluated in
            float64.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> fn = lambda p, x: jax.nn.relu(x @ p["a"]) @ p["b"]
        >>> k1, k2, k3 = jax.random.split(jax.random.key(0), 3)
        >>> p = {"a": jax.random.normal(k1, (3, 4)), "b": jax.random.normal(k2, (4, 2))}
        >>> x = jax.random.normal(k3, (8, 3))
        >>> completeness(fn, p, symmetry.infer(fn, p, x, kinds=None), x)
        Completeness(explained=4, nullity=4)
    """
    spec.flatten(params)
    size = sum(int(np.prod(leaf.shape)) for leaf in spec.leaves)
    if size > LARGEST:
        raise ValueError(
            f"{size} parameters are too many for a dense Jacobian (at most {LARGEST}); take a narrower "
            "network of the same architecture"
        )
    try:
        probe = Probe(fn, spec, params, inputs)
        _, null = row_space(jacobian(probe, probe.given, draws), probe.tolerance)
        return Completeness(spanned(tangents(probe, spec, probe.given)), len(null))
    except CannotProbe as e:
        raise ValueError(f"`fn` cannot be differentiated in float64: {e}") from e

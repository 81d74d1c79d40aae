"""Alignment of stacks of networks: permutations by weight matching, and signs along with them."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...symmetry import Sign, Spec
from ...understanding.matching import weight_matching
from ...zoo.population import Population
from .networks import as_population, host, taken
from .representatives import representatives

ROUNDS = 4
LEAST, AT_ONCE = 16, 1024


def align(networks: Any, reference: Any, spec: Spec, *, key: jax.Array) -> Any:
    """Each network moved in its orbit, by permutations and signs, towards its reference.

    Args:
        networks: a stack `(models, ...)`, scales settled (see `representatives`).
        reference: one network for all, or a stack with one for each.
        spec: the group.
        key: decides the order of visits.

    Returns:
        A stack of numpy arrays.

    Reference:
        S. Ainsworth, J. Hayase, S. Srinivasa, "Git Re-Basin", ICLR 2023, section 3.2.

    Example:
        >>> from wsljax import symmetry
        >>> fn = lambda p, x: jnp.tanh(x @ p["a"]) @ p["b"]
        >>> k1, k2, k3 = jax.random.split(jax.random.key(0), 3)
        >>> p = {"a": jax.random.normal(k1, (3, 4)), "b": jax.random.normal(k2, (4, 2))}
        >>> spec = symmetry.infer(fn, p, jax.random.normal(k3, (8, 3)), kinds=("permutation",))
        >>> moved = spec.act(spec.sample(jax.random.key(1)), p)
        >>> stack = jax.tree.map(lambda x: x[None], moved)
        >>> bool(np.allclose(align(stack, p, spec, key=jax.random.key(2))["a"][0], p["a"]))
        True
    """
    networks, reference = host(networks), host(reference)
    count = len(jax.tree.leaves(networks)[0])
    one = [np.ndim(x) for x in jax.tree.leaves(reference)]
    many = one == [np.ndim(x) for x in jax.tree.leaves(networks)]
    chunk = min(AT_ONCE, max(LEAST, 1 << (count - 1).bit_length()))  # few sizes, few programs
    parts = []
    for start in range(0, count, chunk):
        index = np.minimum(np.arange(start, start + chunk), count - 1)  # every chunk has one shape
        to = taken(reference, index) if many else reference
        parts.append(
            taken(_aligned(taken(networks, index), to, many, spec, key), slice(count - start))
        )
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def aligned_population(
    population: Population, spec: Spec | None = None, *, key: jax.Array, reference: Any = None
) -> Population:
    """A population with scales settled and every network aligned to one of them.

    Args:
        population: whose networks to align.
        spec: the symmetry (default: the population's).
        key: decides the order of visits.
        reference: one network to align to (default: the first).

    Raises:
        ValueError: there is no spec.
    """
    population = as_population(population, what="population")
    spec = population.spec if spec is None else spec
    if spec is None:
        raise ValueError("alignment needs a `spec`; see `wsljax.symmetry.infer`.")
    settled = representatives(population.params, spec)
    if reference is None:
        reference = taken(settled, 0)
    else:
        stack = jax.tree.map(lambda x: np.asarray(x)[None], reference)
        reference = taken(representatives(stack, spec), 0)
    return population.with_params(align(settled, reference, spec, key=key))


def flips(spec: Spec) -> tuple[Sign, ...]:
    """Signs that can be told pair by pair: those that carry nothing into other weights."""
    found = (g for g in spec.generators if isinstance(g, Sign))
    return tuple(g for g in found if not g.carries and not any(t.under for t in g.terms))


def _aligned(networks: Any, reference: Any, many: bool, spec: Spec, key: jax.Array) -> Any:
    signs = flips(spec)
    for turn in range(ROUNDS):
        if spec.units:
            start = "averages" if turn == 0 else "identity"
            found = weight_matching(
                reference, networks, spec, key=key, kinds=("permutation",), start=start
            )
            networks = _moved(spec, found.element, networks)
        if not signs:
            break
        networks, changed = _flipped(spec, signs, many, reference, networks)
        if not np.any(changed):
            break
    return host(networks)


@partial(jax.jit, static_argnums=0)
def _moved(spec: Spec, element: Any, networks: Any) -> Any:
    return jax.vmap(spec.act)(element, networks)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _flipped(spec: Spec, signs: tuple[Sign, ...], many: bool, reference: Any, networks: Any):
    def one(a, b):
        changed = jnp.zeros((), bool)
        for gen in signs:
            x, y = spec.blocks(a), spec.blocks(b)
            gain: Any = 0.0
            for term in gen.terms:
                part = term.slices(y[term.block].ndim)
                product = x[term.block][part] * y[term.block][part]
                rest = tuple(k for k in range(product.ndim) if k not in term.where)
                kept = sorted(term.where)
                gain = gain + product.sum(rest).transpose([kept.index(k) for k in term.where])
            better = gain < 0
            moved = spec.act({gen.name: jnp.where(better, -1, 1)}, b)
            # units of one set that meet in a block may not gain together what they gain alone
            keep = _inner(spec, a, moved) > _inner(spec, a, b)
            b = jax.tree.map(lambda m, w: jnp.where(keep, m, w), moved, b)  # noqa: B023
            changed |= keep & better.any()
        return b, changed

    return jax.vmap(one, in_axes=(0 if many else None, 0))(reference, networks)


def _inner(spec: Spec, a: Any, b: Any) -> jax.Array:
    pairs = zip(spec.flatten(a), spec.flatten(b), strict=True)
    products = [jnp.sum(x * y) for x, y in pairs if jnp.issubdtype(y.dtype, jnp.floating)]
    return jnp.sum(jnp.stack(products))

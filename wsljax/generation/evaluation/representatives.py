"""One network for each orbit of what can be settled before networks are compared: scales, phases, signs.

Scalings are settled by balance (the weights of smallest norm in the orbit), half periods of a sine by the
bias nearest to zero, signs, as a first guess, by a sum of weights that flips with them: all networks side by
side. Groups that need more (linear and orthogonal maps, shifts, gains in front of them) go through
`canonicalise`, one network after the other. Permutations are left to the matching of pairs.
"""

from __future__ import annotations

import warnings
import zlib
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...symmetry import Phase, Scale, Sign, Spec, Uniform
from ...understanding.canonical import canonicalise
from ...understanding.optimisers.balance import balance
from ...understanding.optimisers.scaling import one_sided
from .networks import host, taken

LEAST, AT_ONCE = 16, 1024
GUESSES = 4
"""Statistics of which the largest tells a sign."""


def representatives(networks: Any, spec: Spec | None) -> Any:
    """The networks with scales, phases and signs settled; arrays of numpy.

    Args:
        networks: a stack, `(models, ...)`, finite.
        spec: the symmetry of one network; None, or one without generators, leaves them as they are.

    Example:
        >>> from wsljax import symmetry
        >>> fn = lambda p, x: jax.nn.relu(x @ p["a"]) @ p["b"]
        >>> p = {"a": jnp.full((2, 3), 8.0), "b": jnp.full((3, 2), 0.5)}
        >>> x = jax.random.normal(jax.random.key(0), (8, 2))
        >>> spec = symmetry.infer(fn, p, x, kinds=("permutation", "scale"))
        >>> print(representatives(jax.tree.map(lambda w: w[None], p), spec)["b"][0, 0])
        [2. 2.]
    """
    networks = host(networks)
    if spec is None or not spec.generators:
        return networks
    if all(is_plain(g) for g in spec.generators):
        return _all_settled(networks, spec)
    count = len(jax.tree.leaves(networks)[0])
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # what an orbit leaves open makes distances larger, not smaller
        for i in range(count):
            found.append(host(canonicalise(taken(networks, i), spec).params))
    return jax.tree.map(lambda *leaves: np.stack(leaves), *found)


def is_plain(generator: Any) -> bool:
    """Whether many networks can be settled in one program."""
    if any(t.through or t.under for t in generator.terms):
        return False
    if isinstance(generator, (Scale, Uniform)):
        return not one_sided(generator)
    if isinstance(generator, Phase):
        more = (generator.gains, generator.basis, generator.part, generator.constant)
        return not any(more)
    return isinstance(generator, Sign)


def _all_settled(networks: Any, spec: Spec) -> Any:
    """A chunk at a time, each of one of few sizes, so that there are few programs."""
    count = len(jax.tree.leaves(networks)[0])
    chunk = min(AT_ONCE, max(LEAST, 1 << (count - 1).bit_length()))
    parts = []
    for start in range(0, count, chunk):
        index = np.minimum(np.arange(start, start + chunk), count - 1)
        parts.append(taken(host(_settle_stack(spec, taken(networks, index))), slice(count - start)))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


@partial(jax.jit, static_argnums=0)
def _settle_stack(spec: Spec, networks: Any) -> Any:
    return jax.vmap(partial(_settle, spec))(networks)


def _settle(spec: Spec, params: Any) -> Any:
    if any(isinstance(g, (Scale, Uniform)) for g in spec.generators):
        params = balance(params, spec).params
    for gen in spec.generators:
        if isinstance(gen, Phase):
            periods = -jnp.round(spec.blocks(params)[gen.target] / gen.step).astype(jnp.int32)
            params = spec.act({gen.name: periods}, params)
    for gen in spec.generators:
        if isinstance(gen, Sign):
            params = spec.act({gen.name: _guessed(spec, gen, params)}, params)
    return params


def _guessed(spec: Spec, gen: Sign, params: Any) -> jax.Array:
    """Signs that make the largest of some odd statistics positive; where nothing tells, plus."""
    blocks, layout = spec.blocks(params), {b.name: b for b in spec.layout}
    units = {u.name for u in spec.units}
    odd = jnp.zeros((GUESSES, *gen.sizes, gen.size))
    for term in gen.terms:
        axes = layout[term.block].axes
        others = [axes[k] for k in range(len(axes)) if k not in term.where]
        if set(others) & units or not jnp.issubdtype(blocks[term.block].dtype, jnp.floating):
            continue  # the order of other units is not known yet
        x = blocks[term.block][term.slices(len(axes))]
        rest = [k for k in range(x.ndim) if k not in term.where]
        x = x.transpose([*term.where, *rest]).reshape(*gen.sizes, gen.size, -1)
        seed = zlib.crc32(term.block.encode())
        weights = np.random.default_rng(seed).standard_normal((GUESSES, x.shape[-1]))
        odd = odd + jnp.einsum("...r,gr->g...", x, jnp.asarray(weights, x.dtype))
    largest = jnp.take_along_axis(odd, jnp.abs(odd).argmax(0)[None], 0)[0]
    return jnp.where(largest < 0, -1, 1)

"""``LearnedMatcher``: permutations between two networks, read off features that a metanetwork gives their units.

A. Navon, A. Shamsian, E. Fetaya, G. Chechik, N. Dym, H. Maron, "Equivariant Deep Weight Space Alignment"
(Deep-Align), ICML 2024, section 5: one equivariant network reads both networks, what it says of each unit is
compared with what it says of each unit of the other, and the matrix of likenesses is made a
permutation, by an assignment, or for training a doubly stochastic matrix, by Sinkhorn iterations. As
the features move with the units, so does the answer: moving ``a`` by ``g`` and ``b`` by ``h`` makes
``g P h^-1`` of ``P``.

Here the trunk is any of :func:`wsljax.representation.methods`, and units may be nested: what is inside of heads
is compared between heads that were matched.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ...representation.blocks.dtypes import cast
from ...representation.methods.registry import build_trunk
from ...representation.methods.trunk import Trunk
from ...symmetry import Block, Spec
from ...understanding.matching.assignment import linear_assignment
from ...understanding.matching.exchange import element_block, exchange_block, rows
from ...understanding.matching.problem import Problem, problem_of
from ...understanding.matching.relaxed import mix_block

Arrays = Mapping[str, jax.Array]


class LearnedMatcher(eqx.Module):
    """Two networks in, the element that aligns the second to the first out.

    No parameter depends on a width. Works under ``jit`` and ``vmap``.

    Attributes:
        trunk, readouts: what says ``told`` numbers of every weight.
        heads: ``{units: map from what is said of the weights of a unit to its features}``.
        log_sharpness: ``{units: logarithm of the factor of likenesses}``.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> k1, k2, k3 = jax.random.split(jax.random.key(0), 3)
        >>> b = {"w": jax.random.normal(k1, (3, 5)), "v": jax.random.normal(k2, (5, 2))}
        >>> spec = symmetry.parse(b, {"w": "_ h", "v": "h _"})
        >>> matcher = LearnedMatcher(spec, channels=8, layers=1, key=k3)
        >>> g = spec.sample(jax.random.key(1))
        >>> bool(jnp.all(matcher(spec.act(g, b), b)["h"] == g["h"]))
        True
    """

    trunk: Trunk
    readouts: Any
    heads: dict[str, eqx.nn.MLP]
    log_sharpness: dict[str, jax.Array]
    spec: Spec = eqx.field(static=True)

    def __init__(
        self,
        spec: Spec,
        channels: int,
        layers: int,
        *,
        key: jax.Array,
        method: str = "universal",
        told: int = 8,
        size: int = 32,
        sharpness: float = 4.0,
        scales: Mapping[str, float] | None = None,
        dtype: jnp.dtype | type = jnp.float32,
        **options: Any,
    ):
        """Draw a matcher.

        Args:
            spec: annotation of the networks.
            channels, layers: of the trunk.
            key: of the initial weights.
            method: what the trunk is, one of :func:`wsljax.representation.methods`.
            told: how many numbers the trunk says of each weight.
            size: of the features of a unit.
            sharpness: what likenesses, of features of unit variance, are multiplied by at first.
            scales: typical size of the weights of each block; see :func:`wsljax.representation.block_scales`.
            dtype: of the weights; everything is computed in the dtype of the networks.
            options: of the method.

        Raises:
            ValueError: for a spec without units, or sizes that are not positive.
        """
        for name, value in {"told": told, "size": size, "sharpness": sharpness}.items():
            if value <= 0:
                raise ValueError(f"`{name}` must be positive; got {value}")
        problem = problem_of(spec)
        if not problem.units:
            raise ValueError("the spec has no units: there is nothing to match")
        key_trunk, key_readouts, key_heads = jax.random.split(key, 3)
        self.spec = spec
        trunk = build_trunk(
            method, spec, channels, layers, key=key_trunk, scales=scales, dtype=dtype, **options
        )
        self.trunk = trunk
        self.readouts = eqx.filter_vmap(
            lambda key: trunk.make_readout(spec, channels, key=key, dtype=dtype)
        )(jax.random.split(key_readouts, told))
        keys = jax.random.split(key_heads, len(problem.units))
        self.heads = {
            u.name: eqx.nn.MLP(
                told * len(problem.places(u.name)),
                size,
                2 * size,
                1,
                jax.nn.gelu,
                dtype=dtype,
                key=k,
            )
            for u, k in zip(problem.units, keys, strict=True)
        }
        start = jnp.log(jnp.asarray(sharpness, dtype))
        self.log_sharpness = {u.name: start for u in problem.units}

    # ------------------------------------------------------------------ features
    def features(self, params: Any, spec: Spec | None = None) -> dict[str, jax.Array]:
        """``{units: (*copies, size, features)}`` of one network; they move with its units."""
        own = self.spec if spec is None else spec
        found = self.trunk(own.blocks(params), spec)
        said = eqx.filter_vmap(
            lambda readout: readout(found, spec), in_axes=(eqx.if_array(0),), out_axes=-1
        )(self.readouts)
        problem = problem_of(own)
        out = {}
        for u in problem.units:
            parts = [_of_units(place, said[place.block.name]) for place in problem.places(u.name)]
            x = _standard(jnp.concatenate(parts, -1))
            head = cast(self.heads[u.name], x.dtype)
            for _ in range(x.ndim - 1):
                head = jax.vmap(head)
            out[u.name] = _standard(head(x))
        return out

    def likeness(self, name: str, x: jax.Array, y: jax.Array) -> jax.Array:
        """``(*copies, size, size)`` of the features of some units of both networks.

        Minus half of squared distances: products, but for what is constant along rows or columns,
        which no matching sees and with which Sinkhorn iterations need longer.
        """
        sharp = jnp.exp(self.log_sharpness[name]).astype(x.dtype) / x.shape[-1] ** 0.5
        products = jnp.einsum("...ic,...jc->...ij", x, y)
        sizes = [jnp.sum(jnp.square(z), -1) for z in (x, y)]
        return sharp * (products - (sizes[0][..., :, None] + sizes[1][..., None, :]) / 2)

    # ------------------------------------------------------------------ answers
    def __call__(self, a: Any, b: Any, spec: Spec | None = None) -> dict[str, jax.Array]:
        """The element for which ``spec.act(element, b)`` is ``b`` aligned to ``a``.

        Args:
            a, b: weights of one network each.
            spec: their annotation, where it is another one of the same structure (other widths).
        """
        own = self.spec if spec is None else spec
        problem, identity = problem_of(own), own.identity()
        xs, ys = self.features(a, spec), self.features(b, spec)
        out: dict[str, jax.Array] = {}
        for name in outside_in(problem):
            y = exchange_block(
                jnp, _feature_block(problem, name, ys[name]), ys[name], _above(out, problem, name)
            )
            likeness = self.likeness(name, xs[name], y)
            out[name] = linear_assignment(likeness, maximise=True).astype(identity[name].dtype)
        return {u.name: out.get(u.name, identity[u.name]) for u in own.units}

    def soft(
        self, a: Any, b: Any, spec: Spec | None = None, *, rescalings: int = 30
    ) -> dict[str, jax.Array]:
        """``{units: (*copies, size, size)}``, doubly stochastic; see :func:`.act_relaxed`."""
        problem = problem_of(self.spec if spec is None else spec)
        xs, ys = self.features(a, spec), self.features(b, spec)
        out: dict[str, jax.Array] = {}
        for name in outside_in(problem):
            y = mix_block(
                _feature_block(problem, name, ys[name]), ys[name], _above(out, problem, name)
            )
            out[name] = jnp.exp(log_sinkhorn(self.likeness(name, xs[name], y), rescalings))
        return out

    def given(
        self, a: Any, b: Any, element: Arrays, spec: Spec | None = None, *, rescalings: int = 30
    ) -> dict[str, jax.Array]:
        """Logarithms of :meth:`soft`, those that units are nested over being matched by ``element``."""
        problem = problem_of(self.spec if spec is None else spec)
        xs, ys = self.features(a, spec), self.features(b, spec)
        out = {}
        for name in outside_in(problem):
            block = _feature_block(problem, name, ys[name])
            y = exchange_block(jnp, block, ys[name], _above(element, problem, name))
            out[name] = log_sinkhorn(self.likeness(name, xs[name], y), rescalings)
        return out


def log_sinkhorn(x: jax.Array, rescalings: int) -> jax.Array:
    """The logarithm of the doubly stochastic matrix of ``x``, differentiated step by step.

    The implicit gradient of :func:`~wsljax.understanding.matching.sinkhorn` is that of the limit; of near permutations,
    where a matcher that has learned its task arrives, few rescalings are far from it.

    Example:
        >>> import jax.numpy as jnp
        >>> p = jnp.exp(log_sinkhorn(jnp.array([[4.0, 1.0], [2.0, 3.0]]), 50))
        >>> [round(float(v), 4) for v in p.sum(-1)]
        [1.0, 1.0]
    """

    def rescale(y, _):
        y = jax.nn.log_softmax(y, -1)
        return jax.nn.log_softmax(y, -2), None

    return jax.lax.scan(rescale, x, length=rescalings)[0]


def outside_in(problem: Problem) -> list[str]:
    """All units, each after those that it is nested over."""
    return [u.name for u in sorted(problem.units, key=lambda u: len(u.over))]


def _above(found: Arrays, problem: Problem, name: str) -> dict[str, jax.Array]:
    return {o: found[o] for o in problem.by_name[name].over if o in problem.by_name}


def _feature_block(problem: Problem, name: str, x: jax.Array) -> Block:
    """Features of units seen as a block: the axes of their element, and a fixed one of channels."""
    block = element_block(problem, name)
    parents = (*block.parents, ())
    return Block(name, name, (*block.axes, "_"), (*block.shape, x.shape[-1]), parents)


def _of_units(place, x: jax.Array) -> jax.Array:
    """Means over all other axes of a block ``(*block, told)``: ``(*copies, size, told)``."""
    each = jax.vmap(lambda y: jnp.mean(rows(jnp, y, place), -1), -1, -1)
    return each(x)


def _standard(x: jax.Array) -> jax.Array:
    """Mean zero and variance one over the units of a set."""
    x = x - jnp.mean(x, -2, keepdims=True)
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), -2, keepdims=True) + 1e-8)

"""MAGEP-NFN: equivariant polynomials of the weights, built of products along paths.

Vo, Tran, Tran Huu, Nguyen The, Tran, Nguyen-Nhat, Pham, Nguyen, *Equivariant Polynomial Functional
Networks*, ICML 2025. Its stable polynomial terms are the products of weights along paths,
``W(s) ... W(t+1)``, those that end in a bias, ``W(s) ... W(t+1) b(t)``, and products of a path from the
inputs (or a bias) with one to the outputs, through learned matrices. They move as weights and biases do
under every permutation and scale.

Here they are what flows along the blocks of any spec. A stream of each charge gathers the products of all
paths that end at its units; a message from one stream to the next is a product with a weight, summed
over the units between, which exists where the charges there cancel. ``degree`` rounds of messages give
products of that many weights. What comes from the inputs and what comes from the outputs are streams
of opposite charge; at a weight they meet in a product (the terms ``bW`` and ``WW``), at one unit in an
invariant (the terms ``W(L) ... W(1)`` and traces), by which paths to biases and from the last units are
multiplied (``bW`` and ``WW`` with a fixed end). Signs are their own opposite, so for them both flow in one
stream. Units without generators have streams without charge, and messages are means.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ...symmetry.spec import Spec
from ..blocks.features import Features
from ..blocks.stacks import Cell, assemble
from ..parts.norm import BlockNorm
from ..scaling.messages import Group, Plan, at_site, message, outer, plan, rms
from ..scaling.pieces import pieces
from ..scaling.trunk import PieceTrunk
from ..universal.initial import normals
from .monomial import MonomialLayer
from .registry import register_method

Weights = dict[str, dict[str, jax.Array]]


class PathProducts(eqx.Module):
    """An equivariant polynomial layer: features of pieces to features of as many channels.

    Attributes:
        weights: by role of the pieces; no width and no depth is in any.
        degree: how many weights the longest path has.
        normalise: divide what has flowed by its root mean square after each round; without, every
            output is a polynomial in the features: of degree ``2 * degree`` at most for kernels, and
            ``3 * degree`` where there is one charge, as paths times invariants.
        spec: annotation of the weights.
    """

    weights: Weights
    degree: int = eqx.field(static=True)
    normalise: bool = eqx.field(static=True)
    spec: Spec = eqx.field(static=True)

    def __init__(
        self,
        spec: Spec,
        channels: int,
        *,
        degree: int = 3,
        normalise: bool = True,
        key: jax.Array,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        if degree < 1:
            raise ValueError(f"`degree` must be positive; got {degree}")
        self.spec, self.degree, self.normalise = spec, degree, normalise
        found = plan(spec, True)
        square = (channels, channels)
        shapes: dict[tuple[str, str], tuple[int, ...]] = {}
        for g in found.groups:
            role = _role(g)
            n = len(g.sites)
            names = {"own": square}
            if n:
                names |= {"begin": (n, *square), "meet": (n, *square), "met": square}
            if n == 1 and g.charged[0]:
                names |= {"times": square}
            if any(_arrives(g, to) for to in range(n)) and n > 1 and degree > 1:
                names |= {"send": (n, *square), "go on": (n, *square)}
            if not any(g.charged):
                names |= {"whole": square, "constant": (channels,)}
            shapes |= {(role, name): shape for name, shape in names.items()}
        draws = normals(key, tuple(shapes.values()), dtype)
        self.weights = {}
        for (role, name), x in zip(shapes, draws, strict=True):
            x = x / jnp.asarray(channels**0.5, dtype) if x.ndim > 1 else x / 2
            self.weights.setdefault(role, {})[name] = x

    def __call__(self, x: Features) -> Features:
        found = plan(self.spec, True, tuple(sorted(x.widths.items())))
        place = {b: (g, n) for g, members in enumerate(x.groups) for n, b in enumerate(members)}
        wanted = [
            [Cell(*place[b], tuple(range(len(g.widths)))) for b in g.members] for g in found.groups
        ]
        features = assemble(dict(enumerate(x.arrays)), wanted)
        w = jax.tree.map(lambda a: a.astype(features[0].dtype), self.weights)
        nodes = self._paths(found, w, features)
        whole = self._invariants(found, nodes, features)
        out = []
        for g, a in zip(found.groups, features, strict=True):
            own = w[_role(g)]
            y = a @ own["own"]
            if g.sites:
                met = self._met(found, g, own, nodes)
                if "times" in own:
                    met = met * (1 + whole @ own["times"])
                y = y + met @ own["met"]
            if not any(g.charged):
                y = y + (whole @ own["whole"] + own["constant"])
            out.append(y)
        back = {b: (k, n) for k, g in enumerate(found.groups) for n, b in enumerate(g.members)}
        wanted = [
            [Cell(*back[b], tuple(range(a.ndim - 2))) for b in members]
            for a, members in zip(x.arrays, x.groups, strict=True)
        ]
        return Features(tuple(assemble(dict(enumerate(out)), wanted)), x.structure, x.groups)

    def _sized(self, x: jax.Array) -> jax.Array:
        return rms(x) if self.normalise else x

    def _paths(self, found: Plan, w: Weights, features: list[jax.Array]) -> list[jax.Array]:
        """The sums of products along all paths of at most ``degree`` weights, by stream."""
        begin = list(found.zeros(features[0].shape[-1], features[0].dtype))
        for g, a in zip(found.groups, features, strict=True):
            for to in range(len(g.sites)):
                others = [k for k in range(len(g.sites)) if k != to]
                if not any(g.charged[k] for k in others):
                    y = message(g, a, {}, to) @ w[_role(g)]["begin"][to]
                    found.add(begin, g.streams[to], y)
        begin = [self._sized(a) for a in begin]

        def go_on(nodes: tuple[jax.Array, ...], _: None) -> tuple[tuple[jax.Array, ...], None]:
            news = list(begin)
            for g, a in zip(found.groups, features, strict=True):
                own = w[_role(g)]
                for to in range(len(g.sites)):
                    if len(g.sites) == 1 or not _arrives(g, to):
                        continue
                    factors = {
                        k: found.gather(nodes, g.answers[k]) @ own["send"][k]  # type: ignore[arg-type]
                        for k in range(len(g.sites))
                        if k != to
                    }
                    y = self._sized(message(g, a, factors, to)) @ own["go on"][to]
                    found.add(news, g.streams[to], y)
            return tuple(map(self._sized, news)), None

        nodes = tuple(begin)
        if self.degree > 1 and nodes:
            nodes, _ = jax.lax.scan(go_on, nodes, None, length=self.degree - 1)
        return list(nodes)

    def _met(self, found: Plan, g: Group, w: dict[str, jax.Array], nodes) -> jax.Array:
        """Paths to the sites of a piece, multiplied where they have charges."""
        at = {k: found.gather(nodes, g.streams[k]) @ w["meet"][k] for k in range(len(g.sites))}
        product = outer(g, {k: y for k, y in at.items() if g.charged[k]})
        for k, y in at.items():
            if not g.charged[k]:
                y = at_site(g, k, y)
                if product is None:
                    product = y
                else:
                    product = product * (1 + y) if any(g.charged) else product + y
        assert product is not None
        return self._sized(
            jnp.broadcast_to(product, (product.shape[0], *g.widths, product.shape[-1]))
        )

    def _invariants(self, found: Plan, nodes: list[jax.Array], features) -> jax.Array:
        """The mean over streams of their products with those of opposite charge."""
        total = jnp.zeros((features[0].shape[-1],), features[0].dtype)
        for s, (_, charge) in enumerate(found.streams):
            back = found.opposite[s]
            if not charge:
                y = found.gather(nodes, [s])
            elif back is not None and s <= back:
                y = found.gather(nodes, [s]) * found.gather(nodes, [back])
            else:
                continue
            total = total + jnp.mean(y, axis=tuple(range(y.ndim - 1)))
        return self._sized(total[None])[0]


def _arrives(g: Group, to: int) -> bool:
    """Whether messages to a site exist: all charges on the way must be undone by some stream."""
    return all(g.answers[k] is not None for k in range(len(g.sites)) if k != to)


def _role(g: Group) -> str:
    """The role of pieces, and which of their sites no stream answers."""
    missing = ",".join(str(k) for k, a in enumerate(g.answers) if a is None)
    return f"{g.role} without {missing}" if missing else g.role


@register_method("magep")
def magep_trunk(
    spec: Spec,
    channels: int,
    layers: int,
    *,
    key: jax.Array,
    degree: int = 3,
    norm: bool = True,
    activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu,
    odd: Callable[[jax.Array], jax.Array] = jnp.tanh,
    dtype: jnp.dtype | type = jnp.float32,
    **options: Any,
) -> PieceTrunk:
    """The trunk of a MAGEP-NFN.

    Args:
        spec, channels, layers, key, dtype, options: see :class:`.LayeredTrunk`.
        degree: how many weights the longest path in a layer has.
        norm: normalise what flows along the paths, and after every layer.
        activation: of the pieces that no sign flips.
        odd: of those that signs flip; an odd function, or the network is not equivariant.
    """

    def draw(key: jax.Array) -> MonomialLayer:
        layer = PathProducts(spec, channels, degree=degree, normalise=norm, key=key, dtype=dtype)
        own = pieces(spec).spec
        after = BlockNorm(own, channels, dtype=dtype) if norm else None
        return MonomialLayer(layer, after, spec, activation, odd)

    return PieceTrunk(spec, channels, layers, draw, key=key, dtype=dtype, **options)

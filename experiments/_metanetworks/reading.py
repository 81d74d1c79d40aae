"""What a metanetwork reads of a network: its weights, and what may stand beside them.

Probes are learned inputs: activations and results there are features of the same units. Networks that
were fitted from one start are read as what became of the start, and the start beside it, which tells the
units apart. All of it is one tree with a spec of its own, so any method reads it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from configs._metanetworks import Entry
from experiments._metanetworks.learn import Draw, drawn, metanetwork
from wsljax import representation
from wsljax.symmetry import Spec, Term

SAMPLE = 256
"""Networks at which sizes of features are measured."""


class Held:
    """An array or a tree that is constant: part of a module, and never trained."""

    def __init__(self, value: Any):
        self.value = jax.tree.map(np.asarray, value)


class Reading(eqx.Module):
    """The weights of one network to the tree that is read of it.

    Attributes:
        probes: learned inputs, or None.
        start: where all networks were fitted from, or None.
        spec: the annotation of the tree.
    """

    probes: representation.Probes | None
    start: Held | None = eqx.field(static=True)
    spec: Spec = eqx.field(static=True)

    def __init__(
        self,
        spec: Spec,
        params: Any,
        *,
        probes: representation.Probes | None = None,
        start: Any = None,
    ):
        """See the class.

        Args:
            spec: annotation of the weights. Its signs and scales are kept where it can be said how
                they move all features.
            params: the weights of one network.
            probes, start: what is read beside them.
        """
        self.probes, self.start = probes, None if start is None else Held(start)
        self.spec = self._annotated(spec, params)

    def __call__(self, params: Any) -> dict[str, Any]:
        tree = {"weights": params} if self.probes is None else dict(self.probes(params))
        if self.start is not None:
            start = jax.tree.map(jnp.asarray, self.start.value)
            tree["weights"] = jax.tree.map(jnp.subtract, params, start)
            tree["start"] = start
        return tree

    def _annotated(self, spec: Spec, params: Any) -> Spec:
        copies = ["weights"] + ["start"] * (self.start is not None)
        leaves = {}
        for leaf in () if self.probes is None else self.probes.spec.leaves:
            leaves.setdefault(leaf.path.split("/")[0], []).append(leaf)
        for copy in copies:
            leaves[copy] = [
                dataclasses.replace(leaf, path=f"{copy}/{leaf.path}") for leaf in spec.leaves
            ]
        every = tuple(leaf for what in sorted(leaves) for leaf in leaves[what])
        treedef = jax.tree.structure(jax.eval_shape(self.__call__, params))
        plain = Spec(every, spec.units, treedef=treedef)
        moved = (_moved(g, self.probes, spec, plain, params, copies) for g in spec.generators)
        return representation.with_generators(plain, [g for g in moved if g is not None])


def _moved(generator, probes, spec: Spec, plain: Spec, params: Any, copies: list[str]) -> Any:
    """A sign or scale of the weights as one of the whole tree; None where it is none."""
    if generator.kind not in ("sign", "scale") or generator.carries or generator.over:
        return None
    terms = [
        dataclasses.replace(term, block=f"{copy}/{term.block}")
        for copy in copies
        for term in generator.terms
    ]
    if probes is None:
        return dataclasses.replace(generator, terms=tuple(terms))
    element = spec.sample(jax.random.key(0), kinds=(generator.kind,))[generator.name]
    other = spec.act({**spec.identity(), generator.name: element}, params)
    layout = {block.name: block for block in plain.layout}
    like = probes.spec.blocks
    before, after = like(probes(params)), like(probes(other))
    for name, x in before.items():
        if name.split("/")[0] in copies or _same(x, after[name]):
            continue
        axes = [k for k, a in enumerate(layout[name].axes) if a == generator.units]
        found = [k for k in axes if _same(x * _along(element, k, x.ndim), after[name])]
        if not found:
            return None
        terms.append(Term(name, found[0]))
    return dataclasses.replace(generator, terms=tuple(terms))


def _along(element: jax.Array, axis: int, rank: int) -> jax.Array:
    return element.reshape(*(-1 if k == axis else 1 for k in range(rank)))


def _same(a: jax.Array, b: jax.Array) -> bool:
    return bool(jnp.max(jnp.abs(a - b)) <= 1e-3 * jnp.max(jnp.abs(a)) + 1e-6)


class Reader(eqx.Module):
    """A reading, and a network that reads it."""

    reading: Reading
    net: Any

    def __call__(self, params: Any) -> Any:
        return self.net(self.reading(params))


def reading_of(
    entry: Entry,
    spec: Spec,
    params: Any,
    fn: Callable[[Any, jax.Array], jax.Array],
    inputs: Any,
    start: Any = None,
    *,
    key: jax.Array,
) -> tuple[Reading | None, Spec, Mapping[str, float]]:
    """What an entry reads, its annotation, and sizes of what is in it; None for weights alone.

    Args:
        entry: says how many probes there are.
        spec: annotation of the networks.
        params: networks, stacked.
        fn: what they compute of one input.
        inputs: `(n, ...)`, of which probes start at some.
        start: where all networks were fitted from, or None.
        key: draws them.
    """
    few = jax.tree.map(lambda x: jnp.asarray(x[:SAMPLE]), params)
    if not entry.probes and start is None:
        return None, spec, representation.block_scales(spec, few)
    one, probes = jax.tree.map(lambda x: x[0], few), None
    if entry.probes:
        inputs = jnp.asarray(inputs)
        probes = representation.Probes(fn, one, spec, inputs[0], n=entry.probes, key=key)
        rows = jax.random.choice(key, len(inputs), (entry.probes,))
        probes = eqx.tree_at(lambda p: p.inputs, probes, [inputs[rows]])
    reading = Reading(spec, one, probes=probes, start=start)
    scales = representation.block_scales(reading.spec, jax.vmap(reading)(few))
    return reading, reading.spec, scales


def reader(fn: Callable[[Any, jax.Array], jax.Array], inputs: Any, start: Any = None) -> Draw:
    """For `learn`: metanetworks with probes, of networks `fn(params, x)` that may have one start.

    Args:
        fn, inputs, start: see `reading_of`.
    """

    def draw(entry: Entry, spec: Spec, params: Any, out: int, *, key: jax.Array) -> Any:
        if not entry.probes and start is None:
            return metanetwork(entry, spec, params, out, key=key)
        key_probes, key_net = jax.random.split(key)
        reading, full, scales = reading_of(entry, spec, params, fn, inputs, start, key=key_probes)
        assert reading is not None
        return Reader(reading, drawn(entry, full, scales, out, key=key_net))

    return draw

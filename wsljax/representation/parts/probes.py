"""Probes: what a network does at a few inputs that are learned, as features beside its weights.

Units of a network may stand in any order, and so may what is computed in them: the activations of a
hidden layer move as its units do. So the values inside the network at given inputs are features of its
nodes, for any network that can be traced: :mod:`wsljax.symmetry.activations` says which axis of which
value runs over which units. Results at the probes are the same for all orders. Where a set of units has
no activation that can be annotated, gradients of the results in the weights take their place: they have
the shapes and the symmetry of the weights.

Activations at learned inputs: Kofinas et al., *Graph Neural Networks for Learning Equivariant
Representations of Neural Networks*, 2024, section 3. Results at learned inputs: Kahana et al., *Deep Linear
Probe Generators for Weight Space Learning*, 2024.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from math import prod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...symmetry.activations import Activations, trace_activations
from ...symmetry.annotation import Leaf
from ...symmetry.axes import Fixed, Prod, Unit
from ...symmetry.layout import Block
from ...symmetry.spec import Spec

POSITIONS = 8
"""Values with more fixed positions than this a probe (pixels, tokens) give mean and spread over them."""

WEIGHTS = "weights"
"""What the weights are called in the tree of weights and features."""


class Probes(eqx.Module):
    """Features of what a network computes, for any method.

    Called with weights it gives the tree ``{"weights", "activations", "outputs", "gradients"}``, which
    :attr:`spec` annotates. A method drawn for that spec reads such trees as it reads weights; the
    graph networks also take ``probes=`` and are called with weights.

    Attributes:
        inputs: the learned inputs, flat, each ``(n, *shape)``; integers are kept as they were given.
        cotangents: of the results, whose gradients in the weights are features.
        weights_spec: the annotation of the weights.
        spec: the annotation of what comes out.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> from wsljax.representation import Metanetwork
        >>> def mlp(p, x):
        ...     return jnp.tanh(x @ p["w"] + p["b"]) @ p["v"]
        >>> params = {"w": jnp.ones((2, 5)), "b": jnp.ones(5), "v": jnp.ones((5, 1))}
        >>> x = jnp.ones(2)
        >>> spec = symmetry.infer(mlp, params, x, kinds=("permutation",))
        >>> probes = Probes(mlp, params, spec, x, n=4, key=jax.random.key(0))
        >>> {path: text for path, text in probes.spec.axes.items() if "weights" not in path}
        {'activations/0': '(_4 h0)', 'outputs/0': '(_4 _1)'}
        >>> net = Metanetwork(probes.spec, channels=4, layers=1, out=1, key=jax.random.key(1))
        >>> net(probes(params)).shape
        (1,)
    """

    inputs: list[jax.Array]
    cotangents: list[jax.Array]
    fn: Callable = eqx.field(static=True)
    weights_spec: Spec = eqx.field(static=True)
    spec: Spec = eqx.field(static=True)
    gradients: bool = eqx.field(static=True)
    outputs: bool = eqx.field(static=True)
    activations: bool = eqx.field(static=True)
    treedef: Any = eqx.field(static=True)

    def __init__(
        self,
        fn: Callable,
        params_like: Any,
        spec: Spec,
        *inputs_like: Any,
        n: int,
        key: jax.Array,
        activations: bool = True,
        outputs: bool = True,
        gradients: bool | None = None,
        dtype: jnp.dtype | type = jnp.float32,
    ):
        """Draw probes.

        Args:
            fn: the function of the networks, ``fn(params, *inputs)``.
            params_like: weights, or their shapes.
            spec: their annotation, as :func:`wsljax.symmetry.infer` finds it.
            *inputs_like: inputs or their shapes. A probe is one such input: leave batches out where
                the function allows it, for every example of a batch would be learned for itself.
            n: how many probes.
            key: of the initial inputs, which are standard normal.
            activations, outputs: whether to give these.
            gradients: whether to give gradients; by default where some units have no activation.
            dtype: of the inputs.

        Raises:
            ValueError: fewer than one probe; integer inputs of which only the shape is given; a spec
                that is not the function's; nothing left to give.
        """
        if n < 1:
            raise ValueError(f"`n` must be positive; got {n}")
        flat, self.treedef = jax.tree.flatten(inputs_like)
        keys = jax.random.split(key, 2 * len(flat) + 2)
        self.inputs = []
        for k, x in zip(keys, flat, strict=False):
            if jnp.issubdtype(jnp.result_type(x), jnp.inexact):
                self.inputs.append(jax.random.normal(k, (n, *np.shape(x)), dtype))
            elif isinstance(x, jax.ShapeDtypeStruct):
                raise ValueError(
                    f"an input of dtype {x.dtype} cannot be learned and only its shape is given; "
                    "give its values"
                )
            else:
                self.inputs.append(jnp.broadcast_to(jnp.asarray(x), (n, *np.shape(x))))
        self.fn, self.weights_spec = fn, spec
        self.outputs, self.activations = outputs, activations
        self.cotangents = []
        shapes = _shapes(spec, dtype)
        results = jax.tree.leaves(jax.eval_shape(fn, shapes, *self._one(self.inputs, shape=True)))
        results = [r for r in results if jnp.issubdtype(r.dtype, jnp.inexact)]
        found = self._trace(spec, jnp.dtype(dtype)) if activations else None
        seen = {a for block in found.spec.layout for a in block.axes} if found else set()
        missing = [u.name for u in spec.units if u.name not in seen]
        self.gradients = bool(missing) if gradients is None else gradients
        if not results or not (outputs or self.gradients or (found and found.spec.leaves)):
            raise ValueError(
                "nothing to give: the function has no floating results, or all of `activations`, "
                "`outputs` and `gradients` are off"
            )
        size = n * sum(prod(r.shape) for r in results)
        if self.gradients:
            for k, r in zip(jax.random.split(keys[-1], len(results)), results, strict=True):
                draw = jax.random.normal(k, (n, *r.shape), dtype)
                self.cotangents.append(draw / jnp.asarray(size**0.5, dtype))
        self.spec = self._spec_of(spec, jnp.dtype(dtype))

    def __call__(self, params: Any) -> dict[str, Any]:
        """The weights of one network, and its features; see :attr:`spec`."""
        return self._tree(params, self.weights_spec)

    def with_blocks(
        self, blocks: Mapping[str, jax.Array], spec: Spec | None = None
    ) -> tuple[dict[str, jax.Array], Spec]:
        """Blocks of weights to the blocks of weights and features, and their annotation.

        Args:
            blocks: ``spec.blocks(params)``.
            spec: their annotation, where it is another one than the probes were drawn for; the same
                function must take such weights.
        """
        own = self.weights_spec if spec is None else spec
        tree = self._tree(own.unblocks(dict(blocks)), own)
        full = self.spec if own == self.weights_spec else self._spec_of(own, _dtype(tree))
        return full.blocks(tree), full

    def _one(self, inputs: list, *, shape: bool = False) -> Any:
        """The inputs of one probe in their tree, or only their shapes."""
        if shape:
            inputs = [jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for x in inputs]
        return jax.tree.unflatten(self.treedef, inputs)

    def _trace(self, spec: Spec, dtype: jnp.dtype) -> Activations:
        shapes = tuple(
            (x.shape[1:], dtype if jnp.issubdtype(x.dtype, jnp.inexact) else x.dtype)
            for x in self.inputs
        )
        return _traced(self.fn, spec, dtype, shapes, self.treedef)

    def _tree(self, params: Any, spec: Spec) -> dict[str, Any]:
        dtype = _dtype(params)
        params = jax.tree.map(jnp.asarray, params)
        inputs = [
            x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.inexact) else x for x in self.inputs
        ]
        tree: dict[str, Any] = {WEIGHTS: params}
        if self.activations:
            found = self._trace(spec, dtype)
            run = jax.vmap(lambda x: found(params, *self._one(x)))
            results, values = run(inputs)
            tree["activations"] = _nodes(found, values)
        else:
            results = self._results(params, inputs)
        results = [r for r in results if jnp.issubdtype(r.dtype, jnp.inexact)]
        if self.outputs:
            tree["outputs"] = [r.reshape(-1) for r in results]
        if self.gradients:

            def total(params: Any) -> jax.Array:
                found = self._results(params, inputs)
                found = [r for r in found if jnp.issubdtype(r.dtype, jnp.inexact)]
                return sum(
                    (
                        jnp.sum(r * c.astype(r.dtype))
                        for r, c in zip(found, self.cotangents, strict=True)
                    ),
                    jnp.zeros((), dtype),
                )

            tree["gradients"] = jax.grad(total)(params)
        return tree

    def _results(self, params: Any, inputs: list) -> list[jax.Array]:
        return jax.tree.leaves(jax.vmap(lambda x: self.fn(params, *self._one(x)))(inputs))

    def _spec_of(self, spec: Spec, dtype: jnp.dtype) -> Spec:
        """The annotation of :meth:`_tree` of weights that ``spec`` annotates."""
        shapes = jax.eval_shape(lambda p: self._tree(p, spec), _shapes(spec, dtype))
        leaves: dict[str, tuple[Leaf, ...]] = {WEIGHTS: spec.leaves}
        if self.activations:
            found = self._trace(spec, dtype)
            pairs = zip(_kept(found), shapes["activations"], strict=True)
            leaves["activations"] = tuple(
                _node_leaf(n, block, x.shape) for n, (block, x) in enumerate(pairs)
            )
        if self.outputs:
            leaves["outputs"] = tuple(
                Leaf(str(n), x.shape, (Prod((Fixed(x.size), Fixed(1))),))
                for n, x in enumerate(shapes["outputs"])
            )
        if self.gradients:
            leaves["gradients"] = spec.leaves
        every = tuple(
            Leaf(f"{what}/{leaf.path}", leaf.shape, leaf.trees)
            for what in sorted(leaves)
            for leaf in leaves[what]
        )
        return Spec(every, spec.units, treedef=jax.tree.structure(shapes))


@lru_cache(maxsize=64)
def _traced(fn: Callable, spec: Spec, dtype, shapes, treedef) -> Activations:
    inputs = [jax.ShapeDtypeStruct(shape, kind) for shape, kind in shapes]
    return trace_activations(fn, _shapes(spec, dtype), spec, *jax.tree.unflatten(treedef, inputs))


def _shapes(spec: Spec, dtype: Any) -> Any:
    """The weights that ``spec`` annotates, as shapes."""
    leaves = [jax.ShapeDtypeStruct(leaf.shape, dtype) for leaf in spec.leaves]
    return jax.tree.unflatten(spec.treedef, leaves)


def _dtype(params: Any) -> jnp.dtype:
    found = [x.dtype for x in map(jnp.asarray, jax.tree.leaves(params))]
    return jnp.result_type(*[d for d in found if jnp.issubdtype(d, jnp.inexact)] or [jnp.float32])


def _kept(found: Activations) -> list[Block]:
    """The blocks of the values that have units."""
    units = {u.name for u in found.spec.units}
    return [block for block in found.spec.layout if any(a in units for a in block.axes)]


def _unit_axes(block: Block) -> list[int]:
    return [k for k, a in enumerate(block.axes) if a != "_"]


def _nodes(found: Activations, values: list[jax.Array]) -> list[jax.Array]:
    """Every block of the values as features of its units: ``(features * first, *other units)``."""
    blocks = jax.vmap(found.spec.blocks)(values)
    out = []
    for block in _kept(found):
        units = _unit_axes(block)
        rest = [k for k in range(len(block.axes)) if k not in units]
        x = blocks[block.name].transpose(0, *(1 + k for k in (*rest, *units)))
        x = x.reshape(x.shape[0], -1, *(block.shape[k] for k in units))
        if x.shape[1] > POSITIONS:
            mean = jnp.mean(x, axis=1, keepdims=True)
            spread = jnp.sqrt(jnp.mean(jnp.square(x - mean), axis=1, keepdims=True) + 1e-12)
            x = jnp.concatenate([mean, spread], axis=1)
        out.append(x.reshape(-1, *x.shape[3:]))
    return out


def _node_leaf(number: int, block: Block, shape: tuple[int, ...]) -> Leaf:
    """The annotation of one of :func:`_nodes`; the features stand on the first axis, before its units."""
    units = _unit_axes(block)
    trees: list[Any] = []
    for k in units:
        name, size = block.axes[k], block.shape[k]
        if name.startswith("_"):
            trees.append(Fixed(size, name))
            continue
        at = tuple(sum(block.axes[q] == block.axes[p] for q in range(p)) for p in block.parents[k])
        trees.append(Unit(name, size, None, at))
    first = Prod((Fixed(shape[0] // trees[0].size), trees[0]))
    return Leaf(str(number), shape, (first, *trees[1:]))

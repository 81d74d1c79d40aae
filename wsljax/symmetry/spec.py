"""``Spec``: what may be done to a tree of weights without changing the function they compute.

A ``Spec`` is static, frozen and hashable and stands beside ``params``; it holds no arrays and passes
through ``jit``, ``vmap``, ``scan`` and module fields untouched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import lgamma, prod
from typing import Any

import jax
import jax.numpy as jnp

from .._compat import key_path_str
from . import elements, spec_json, validation
from .annotation import Leaf, Pinned, Units
from .axes import Fixed, atoms
from .generators import KINDS as GENERATOR_KINDS
from .generators import Generator, action
from .grammar import format_axes, unclear_sizes
from .layout import Block, blocks_of, decompose, recompose

KINDS = ("permutation", *GENERATOR_KINDS)


@jax.tree_util.register_static
@dataclass(frozen=True, repr=False)
class Spec:
    """The symmetry annotation of a tree of weights; see :func:`infer` and :func:`parse`.

    Attributes:
        leaves: one :class:`Leaf` per array, in flattening order.
        units: the permutation groups, as :class:`Units`.
        generators: what else leaves the function unchanged; see :mod:`.generators`.
        inputs, outputs: how ``x`` and ``f(x)`` move, where asked for (``free_inputs``/``free_outputs``).
        pinned: the fixed axes and why; not part of equality.
        skipped: kinds of generators that were not looked for, and candidates that were dropped, and
            why; not part of equality.
        approximate: pairs of a generator that holds but for the epsilon of a normalisation, and the change
            of the outputs relative to their spread under random elements of it; no part of the group, and
            of equality.
    """

    leaves: tuple[Leaf, ...]
    units: tuple[Units, ...]
    generators: tuple[Generator, ...] = ()
    inputs: tuple[Leaf, ...] | None = None
    outputs: tuple[Leaf, ...] | None = None
    pinned: tuple[Pinned, ...] = field(default=(), compare=False)
    treedef: Any = field(default=None, compare=False)
    skipped: tuple[str, ...] = field(default=(), compare=False)
    approximate: tuple[tuple[Generator, float], ...] = field(default=(), compare=False)

    # ------------------------------------------------------------------ reading
    @cached_property
    def _units(self) -> dict[str, Units]:
        return {u.name: u for u in self.units}

    @cached_property
    def _hash(self) -> int:
        return hash((self.leaves, self.units, self.generators, self.inputs, self.outputs))

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _fixed_sizes(self) -> dict[str, int]:
        every = (self.leaves, self.inputs or (), self.outputs or ())
        return {
            a.name: a.size
            for group in every
            for leaf in group
            for t in leaf.trees
            for a in atoms(t)
            if isinstance(a, Fixed) and a.name
        }

    def over(self, name: str) -> tuple[str, ...]:
        """The names that the units ``name`` are nested over."""
        return self._units[name].over

    def parts(self, name: str) -> tuple[int, ...]:
        """The sizes of the factors of the units ``name``; empty if they are not a product."""
        return self._units[name].parts

    def size_of(self, name: str) -> int:
        """The size of a set of units, or of a named fixed axis."""
        return self._units[name].size if name in self._units else self._fixed_sizes[name]

    @cached_property
    def _overs(self) -> dict[str, tuple[str, ...]]:
        return {u.name: u.over for u in self.units if u.over}

    @cached_property
    def axes(self) -> dict[str, str]:
        """``{leaf path: annotation}``; ``=n`` where :func:`parse` could not tell a size."""
        sizes = unclear_sizes(leaf.trees for leaf in self.leaves)
        return {leaf.path: format_axes(leaf.trees, self._overs, sizes) for leaf in self.leaves}

    @cached_property
    def layout(self) -> tuple[Block, ...]:
        """The blocks of all leaves, in order."""
        return tuple(
            b for leaf in self.leaves for b in blocks_of(leaf.path, leaf.trees, self._overs)
        )

    def log_order(self) -> float:
        """Natural logarithm of the number of permutations in the group.

        >>> import jax.numpy as jnp, math
        >>> from wsljax.symmetry import parse
        >>> spec = parse({"w": jnp.zeros((3, 4))}, {"w": "_ h"})
        >>> round(math.exp(spec.log_order()))
        24
        """
        return sum(prod(self.size_of(o) for o in u.over) * lgamma(u.size + 1) for u in self.units)

    # ------------------------------------------------------------------ checking a tree against the spec
    def flatten(self, params: Any) -> list[jax.Array]:
        """The leaves of ``params`` in the spec's order.

        Raises:
            ValueError: if paths or shapes differ from the spec's, naming the first that does.
        """
        flat = [(key_path_str(p), x) for p, x in jax.tree_util.tree_flatten_with_path(params)[0]]
        return _matched(self.leaves, flat, "params")

    # ------------------------------------------------------------------ the group
    def sample(self, key: jax.Array, kinds: Sequence[str] | None = None) -> dict[str, jax.Array]:
        """A random element of the group, uniform in what is finite.

        ``kinds`` restricts it to a subgroup, as in ``("permutation", "sign")``: the element then has
        the entries of these kinds only, and leaves the others alone.
        """
        wanted = self._wanted(kinds)
        if not wanted:
            return elements.sample(self, key) if _has(kinds, "permutation") else {}
        first, *rest = jax.random.split(key, len(wanted) + 1)
        out = elements.sample(self, first) if _has(kinds, "permutation") else {}
        return out | {gen.name: gen.draw(k) for gen, k in zip(wanted, rest, strict=True)}

    def identity(self) -> dict[str, jax.Array]:
        """The element that moves nothing."""
        return elements.identity(self) | {gen.name: gen.neutral() for gen in self.generators}

    def compose(self, g2, g1) -> dict[str, jax.Array]:
        """The element that acts as ``g1`` and then ``g2``; it has the entries of both."""
        named = {*g2, *g1}
        g2, g1 = self._checked(g2), self._checked(g1)
        out = elements.compose(self, g2, g1)
        if any(gen.name in named for gen in self.generators):
            out |= action.compose(self, g2, g1, elements.inverse(self, g1))
        return {name: x for name, x in out.items() if name in named}

    def inverse(self, g) -> dict[str, jax.Array]:
        """The element that undoes ``g``; it has the entries of ``g``."""
        full = self._checked(g)
        out = elements.inverse(self, full)
        if any(gen.name in g for gen in self.generators):
            out |= action.inverse(self, full)
        return {name: x for name, x in out.items() if name in g}

    def algebra(self, kinds: Sequence[str] | None = None) -> dict[str, jax.Array]:
        """The zero of the Lie algebra: one array for each continuous generator; see :meth:`exp`."""
        return {
            gen.name: jnp.zeros(gen.algebra_shape, gen.neutral().dtype)
            for gen in self._wanted(kinds)
            if gen.continuous
        }

    def exp(self, v: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """The element in the direction ``v``, shaped as :meth:`algebra` gives it.

        Generators that ``v`` leaves out stay neutral: the element has no entry for them.

        Raises:
            ValueError: if ``v`` has a name or a shape that no continuous generator has.
        """
        out = {}
        known = {gen.name: gen for gen in self.generators if gen.continuous}
        for name, x in v.items():
            if name not in known:
                raise ValueError(f"direction has {name!r}; continuous generators: {tuple(known)}")
            x = jnp.asarray(x)
            if x.shape != known[name].algebra_shape:
                raise ValueError(
                    f"direction[{name!r}] has shape {x.shape}; expected {known[name].algebra_shape}"
                )
            out[name] = known[name].exp(x)
        return out

    def act(self, g, params: Any) -> Any:
        """The weights moved by ``g``: another tree that computes the same function.

        Units and generators that ``g`` leaves out stay where they are. Generators act first, then
        permutations.

        Raises:
            ValueError: if ``params`` does not match the spec, or ``g`` names what it does not know.
        """
        full = self._checked(g)
        leaves = self.flatten(params)
        treedef = jax.tree_util.tree_structure(params)
        moved = [_array(x) for x in leaves]
        some = {name: full[name] for name in g if name not in self._units}
        if some:
            moved = action.act_on_leaves(self, some, moved)
        if any(name in self._units for name in g):
            moved = [
                elements.act_on_leaf(self, full, leaf.trees, x)
                for leaf, x in zip(self.leaves, moved, strict=True)
            ]
        return jax.tree_util.tree_unflatten(treedef, moved)

    def _wanted(self, kinds: Sequence[str] | None) -> list[Generator]:
        for kind in kinds or ():
            if kind not in KINDS:
                raise ValueError(f"unknown kind {kind!r}; known: {KINDS}")
        return [gen for gen in self.generators if _has(kinds, gen.kind)]

    def act_inputs(self, g, inputs: tuple) -> tuple:
        """The inputs moved by ``g`` (a spec inferred with ``free_inputs``; else unchanged)."""
        return inputs if self.inputs is None else self._act_on(g, self.inputs, inputs, "inputs")

    def act_outputs(self, g, outputs: Any) -> Any:
        """The outputs moved by ``g`` (a spec inferred with ``free_outputs``; else unchanged)."""
        return (
            outputs if self.outputs is None else self._act_on(g, self.outputs, outputs, "outputs")
        )

    def _act_on(self, g, leaves: tuple[Leaf, ...], tree: Any, what: str) -> Any:
        g = self._checked(g)
        flat, treedef = jax.tree_util.tree_flatten_with_path(tree)
        arrays = _matched(leaves, [(key_path_str(p), x) for p, x in flat], what)
        moved = [
            elements.act_on_leaf(self, g, leaf.trees, _array(x)) for leaf, x in zip(leaves, arrays)
        ]
        return jax.tree_util.tree_unflatten(treedef, moved)

    def _checked(self, g) -> dict[str, jax.Array]:
        """``g`` with an entry for all units and generators, every shape checked."""
        known = {gen.name: gen.shape for gen in self.generators}
        for u in self.units:
            known[u.name] = (*[self.size_of(o) for o in u.over], u.size)
        for name in g:
            if name not in known:
                raise ValueError(
                    f"element has {name!r}, which is not among the units {tuple(self._units)} or the "
                    f"generators {tuple(gen.name for gen in self.generators)}"
                )
        out = {}
        for u in self.units:
            shape = known[u.name]
            default = jnp.broadcast_to(jnp.arange(u.size), shape) if u.name not in g else None
            out[u.name] = jnp.asarray(g[u.name]) if default is None else default
        for gen in self.generators:
            out[gen.name] = jnp.asarray(g[gen.name]) if gen.name in g else gen.neutral()
        for name, x in out.items():
            if x.shape != known[name]:
                raise ValueError(f"element[{name!r}] has shape {x.shape}; expected {known[name]}")
        return out

    # ------------------------------------------------------------------ blocks
    def blocks(self, params: Any) -> dict[str, jax.Array]:
        """``{block name: array}``: every axis exactly one set of units, or fixed. See ``layout``."""
        arrays = []
        for leaf, x in zip(self.leaves, self.flatten(params)):
            arrays += decompose(_array(x), leaf.trees)
        return {b.name: x for b, x in zip(self.layout, arrays, strict=True)}

    def unblocks(self, blocks: Mapping[str, jax.Array], like: Any = None) -> Any:
        """The exact inverse of :meth:`blocks`.

        Args:
            blocks: as :meth:`blocks` gives them.
            like: any tree of the structure to give back; by default that of the ``params`` the spec
                was made from. A spec read from JSON knows only dicts, lists and tuples.

        Raises:
            ValueError: for missing or unknown blocks, wrong shapes, or an unknown structure.
        """
        names = [b.name for b in self.layout]
        if set(names) != set(blocks):
            raise ValueError(
                f"blocks do not match the spec: missing {sorted(set(names) - set(blocks))}, "
                f"unknown {sorted(set(blocks) - set(names))}"
            )
        for b in self.layout:
            if tuple(blocks[b.name].shape) != b.shape:
                raise ValueError(
                    f"block {b.name!r} has shape {tuple(blocks[b.name].shape)}; expected {b.shape}"
                )
        arrays, at = [], 0
        for leaf in self.leaves:
            n = len(blocks_of(leaf.path, leaf.trees, self._overs))
            arrays.append(recompose([blocks[name] for name in names[at : at + n]], leaf.trees))
            at += n
        treedef = self.treedef if like is None else jax.tree_util.tree_structure(like)
        if treedef is None:
            raise ValueError(
                "this spec does not know the structure of its tree: pass `like=params`"
            )
        return jax.tree_util.tree_unflatten(treedef, arrays)

    # ------------------------------------------------------------------ text
    def __repr__(self) -> str:
        from .report import table

        return table(self)

    def to_json(self) -> str:
        """The spec as JSON text; :meth:`from_json` reads it back."""
        return spec_json.write(self)

    @staticmethod
    def from_json(text: str, like: Any = None) -> Spec:
        """Read what :meth:`to_json` wrote.

        Args:
            text: JSON text.
            like: a tree of the same structure, for trees other than dicts, lists and tuples.

        Raises:
            ValueError: if the text is not such a spec, or does not match ``like``.
        """
        spec = Spec(**spec_json.read(text))
        spec.validate()
        if like is not None:
            spec.flatten(like)
            object.__setattr__(spec, "treedef", jax.tree_util.tree_structure(like))
        return spec

    def validate(self) -> None:
        """Check that trees, shapes, units and generators fit together.

        Raises:
            ValueError: naming the leaf, the units or the generator that does not fit.
        """
        validation.validate(self)


def _matched(leaves: tuple[Leaf, ...], flat: list[tuple[str, Any]], what: str) -> list:
    paths, known = [p for p, _ in flat], [leaf.path for leaf in leaves]
    if paths != known:
        missing, extra = [p for p in known if p not in paths], [p for p in paths if p not in known]
        raise ValueError(
            f"{what} do not match the spec: missing {missing[:5]}, unknown {extra[:5]} "
            f"({len(paths)} leaves, the spec has {len(known)}); infer a spec for this tree"
        )
    for leaf, (path, x) in zip(leaves, flat, strict=True):
        if tuple(getattr(x, "shape", ())) != leaf.shape:
            hint = ""
            if tuple(getattr(x, "shape", ()))[-len(leaf.shape) :] == leaf.shape:
                hint = "; for a stack of networks use jax.vmap"
            raise ValueError(
                f"{what}: {path!r} has shape {tuple(getattr(x, 'shape', ()))}, the spec has {leaf.shape}{hint}"
            )
    return [x for _, x in flat]


def _has(kinds: Sequence[str] | None, kind: str) -> bool:
    return kinds is None or kind in kinds


def _array(x: Any) -> Any:
    """numpy arrays (and others that have a shape) as jax arrays, in jax's dtype for them."""
    return x if isinstance(x, jax.Array) or not hasattr(x, "shape") else jnp.asarray(x)

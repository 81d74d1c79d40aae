"""Values inside a function, with the annotation of their axes: the activations of hidden units.

The walk that finds which axes of the weights are units sees every value in between as well, so it can
say of each axis of an activation which units it runs over. :func:`trace_activations` picks the values
that equations which mix coordinates (products, convolutions) read; the :class:`Activations` that it
returns runs the function and gives these values beside the results. Exchanging units of the weights
exchanges the same units of the activations.

Calls and scans are entered, so the layers of a scanned stack give one value stacked over the layers;
loops of unknown length and branches are not, nor calls with derivatives of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._compat import Literal, open_jaxpr, scan_split, sub_jaxprs
from .activation_axes import Path, Place, annotated
from .rewrite import plain
from .spec import Spec

MIX = ("dot_general", "conv_general_dilated", "ragged_dot")
"""Equations whose operands are activations."""


@dataclass(frozen=True)
class Activations:
    """A function that also gives the values inside it.

    Attributes:
        spec: the annotation of the list of values, in the order in which they are computed: what an
            element of the group does to the weights, ``spec.act`` does to the values.
        places: for each value the equation that reads it and which of its operands it is.
        jaxpr: the traced function.
    """

    spec: Spec
    places: tuple[Place, ...]
    jaxpr: Any

    def __call__(self, params: Any, *inputs: Any) -> tuple[list[jax.Array], list[jax.Array]]:
        """The results, flat, and the values. Shapes must be those of the trace, dtypes are made so."""
        inner, consts = open_jaxpr(self.jaxpr)
        flat = zip(jax.tree.leaves((params, *inputs)), inner.invars, strict=True)
        args = [jnp.asarray(x).astype(v.aval.dtype) for x, v in flat]
        outs, found = _evaluate(inner, consts, args, (), set(self.places))
        return outs, [found[place] for place in self.places]


def trace_activations(
    fn: Callable, params: Any, spec: Spec, *inputs: Any, mix: Sequence[str] = MIX
) -> Activations:
    """Find the values inside ``fn(params, *inputs)`` that carry units of ``spec``.

    Args:
        fn, params, inputs: as :func:`.infer` takes them; shapes are enough.
        spec: the annotation of ``params``, as :func:`.infer` finds it for this function (names may differ).
        mix: the primitives whose operands are wanted.

    Returns:
        The values that depend on the inputs and carry at least one set of units; one entry for a value
        that several equations read. Values of which the walk cannot say what all axes are, are left out.

    Raises:
        ValueError: if the spec is not one that the function has, naming the first leaf that differs.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from wsljax import symmetry
        >>> def mlp(p, x):
        ...     return jnp.tanh(x @ p["w"] + p["b"]) @ p["v"]
        >>> p = {"w": jnp.ones((2, 5)), "b": jnp.ones(5), "v": jnp.ones((5, 1))}
        >>> spec = symmetry.infer(mlp, p, jnp.ones((7, 2)), kinds=("permutation",))
        >>> found = trace_activations(mlp, p, spec, jnp.ones((7, 2)))
        >>> found.spec.axes
        {'0': '_ h0'}
        >>> round(float(found(p, jnp.zeros((7, 2)))[1][0][0, 0]), 3)
        0.762
    """
    shapes = jax.tree.map(_abstract, (params, *inputs))
    closed = jax.make_jaxpr(fn)(*shapes)
    jaxpr, _ = open_jaxpr(closed)
    count = len(jax.tree.leaves(params))
    wanted = list(
        dict.fromkeys(mixed_operands(jaxpr, [n >= count for n in range(len(jaxpr.invars))], mix))
    )
    leaves, places = annotated(closed, spec, params, wanted)
    own = Spec(tuple(leaves), spec.units, treedef=jax.tree.structure([0] * len(leaves)))
    return Activations(own, tuple(places), closed)


def entered(eqn: Any) -> Any:
    """The traced function that an equation runs as it is (a call, or the step of a scan), or None."""
    found = sub_jaxprs(eqn)
    name = eqn.primitive.name
    if len(found) != 1 or name.startswith("custom") or name in ("while", "cond", "pallas_call"):
        return None
    inner = open_jaxpr(found[0][1])
    if name == "scan":
        return inner
    pairs = ((eqn.invars, inner[0].invars), (eqn.outvars, inner[0].outvars))
    same = all(
        len(a) == len(b) and all(x.aval.shape == y.aval.shape for x, y in zip(a, b, strict=True))
        for a, b in pairs
    )
    return inner if same else None


def mixed_operands(
    jaxpr: Any, flags: Sequence[bool], mix: Sequence[str], path: Path = ()
) -> Iterator[tuple[Path, int]]:
    """Operands of equations that mix coordinates, where they depend on the inputs."""
    yield from _scan_values(jaxpr, flags, mix, path)[1]


def _scan_values(jaxpr, flags, mix, path) -> tuple[list[bool], list[tuple[Path, int]]]:
    depends_on = dict(zip(jaxpr.invars, flags, strict=True))
    found: list[tuple[Path, int]] = []
    seen: set[Any] = set()
    for n, eqn in enumerate(jaxpr.eqns):
        on = [not isinstance(a, Literal) and depends_on.get(a, False) for a in eqn.invars]
        here = (*path, n)
        inner = entered(eqn)
        outs = [any(on)] * len(eqn.outvars)
        if inner is not None:
            body = inner[0]
            if eqn.primitive.name == "scan":
                split = scan_split(eqn)
                first = split.num_consts
                for _ in range(split.num_carry + 1):  # until what is carried changes no more
                    outs, more = _scan_values(body, on, mix, here)
                    carried = [
                        a or b for a, b in zip(on[first:], outs[: split.num_carry], strict=False)
                    ]
                    again = [*on[:first], *carried, *on[first + split.num_carry :]]
                    if again == on:
                        break
                    on = again
            else:
                outs, more = _scan_values(body, on, mix, here)
            found += more
        elif eqn.primitive.name in mix:
            for k, (a, flag) in enumerate(zip(eqn.invars, on, strict=True)):
                if flag and a not in seen:
                    seen.add(a)
                    found.append((here, k))
        depends_on.update(zip(eqn.outvars, outs, strict=True))
    return [not isinstance(a, Literal) and depends_on.get(a, False) for a in jaxpr.outvars], found


def _evaluate(jaxpr, consts, args, path: Path, wanted: set) -> tuple[list, dict]:
    """The results of a traced function and the wanted operands in it."""
    env = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *args), strict=True))
    found: dict[tuple[Path, int], Any] = {}

    def read(atom):
        return atom.val if isinstance(atom, Literal) else env[atom]

    depth = len(path)
    inside = {p[depth] for p, _ in wanted if len(p) > depth + 1 and p[:depth] == path}
    for n, eqn in enumerate(jaxpr.eqns):
        values = [read(a) for a in eqn.invars]
        here = (*path, n)
        if n in inside:
            outs, more = _enter(eqn, values, here, wanted)
            found |= more
        else:
            found |= {(here, k): v for k, v in enumerate(values) if (here, k) in wanted}
            outs = plain(eqn, values)
        env.update(zip(eqn.outvars, outs, strict=True))
    return [read(a) for a in jaxpr.outvars], found


def _enter(eqn, values, here: Path, wanted: set) -> tuple[list, dict]:
    inner, consts = entered(eqn)
    if eqn.primitive.name != "scan":
        return _evaluate(inner, consts, values, here, wanted)
    split = scan_split(eqn)
    n, m = split.num_consts, split.num_consts + split.num_carry

    keys: list = []

    def keep(carry, x):
        outs, more = _evaluate(inner, consts, [*values[:n], *carry, *x], here, wanted)
        keys[:] = list(more)
        return outs[: split.num_carry], (outs[split.num_carry :], list(more.values()))

    p = eqn.params
    carry, (ys, more) = jax.lax.scan(
        keep, list(values[n:m]), list(values[m:]), length=p["length"], reverse=p["reverse"]
    )
    return [*carry, *ys], dict(zip(keys, more, strict=True))


def _abstract(x: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(np.shape(x), jax.dtypes.result_type(x))

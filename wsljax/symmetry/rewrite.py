"""A traced function run again equation by equation, so that single equations inside it can be changed.

Loops, branches and calls are entered by structure and rebuilt around what was changed inside them; all
other equations run as they are. ``scan``, ``while``, ``cond``, ``jit``, ``checkpoint`` and calls with
derivatives of their own are known; what is not known is left whole, with all that is in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .._compat import Literal, open_jaxpr, scan_split, sub_jaxprs, while_split

Path = tuple[int, ...]
Change = Callable[[Path, Any, list], tuple[list, Any]]
"""``(path, equation, values) -> (results, note)``; the note is an array of numbers not below zero, or None."""

LOOPS = {"scan", "while", "cond"}


class Places:
    """Where in a traced function the equations of some kind are.

    A path counts equations of that kind, and what contains some, at every level: it is the same for a
    trace at other shapes or another dtype, where there may be more casts.

    Args:
        chosen: whether an equation is of the kind.
    """

    def __init__(self, chosen: Callable[[Any], bool]):
        self.chosen = chosen
        self._known: dict[int, tuple[Any, bool]] = {}

    def holds(self, jaxpr: Any) -> bool:
        """Whether there are some in a traced function."""
        inner, _ = open_jaxpr(jaxpr)
        if id(inner) not in self._known:
            found = any(self.chosen(e) or self.inside(e) for e in inner.eqns)
            self._known[id(inner)] = (inner, found)  # kept, so that the id stays taken
        return self._known[id(inner)][1]

    def inside(self, eqn: Any) -> bool:
        """Whether there are some in what an equation runs, where that can be entered."""
        return any(self.holds(j) for _, j in bodies(eqn))

    def signature(self, jaxpr: Any) -> tuple:
        """What there is at which path, shapes and dtypes left aside."""
        inner, _ = open_jaxpr(jaxpr)
        out = []
        for eqn in inner.eqns:
            if self.chosen(eqn):
                out.append((eqn.primitive.name, len(eqn.invars[0].aval.shape)))
            elif self.inside(eqn):
                nested = tuple(self.signature(j) for _, j in bodies(eqn))
                out.append((eqn.primitive.name if eqn.primitive.name in LOOPS else "call", nested))
        return tuple(out)


def bodies(eqn: Any) -> tuple[tuple[str, Any], ...]:
    """The traced functions in an equation that can be entered and rebuilt."""
    found = sub_jaxprs(eqn)
    name = eqn.primitive.name
    if name == "while":
        return tuple(f for f in found if f[0].startswith("body"))
    if name in LOOPS:
        return found
    if len(found) == 1:
        inner, _ = open_jaxpr(found[0][1])
        same = [
            (a.aval.shape, a.aval.dtype) == (b.aval.shape, b.aval.dtype)
            for group in ((eqn.invars, inner.invars), (eqn.outvars, inner.outvars))
            if len(group[0]) == len(group[1])
            for a, b in zip(*group, strict=True)
            if hasattr(a.aval, "shape") and hasattr(b.aval, "shape")
        ]
        if len(same) == len(eqn.invars) + len(eqn.outvars) and all(same):
            return found
    return ()


def run(
    jaxpr: Any, args: Sequence[Any], places: Places, change: Change, wanted: Any = None
) -> tuple[list, dict[Path, Any]]:
    """The results of a traced function in which ``change`` runs the equations of ``places``.

    Args:
        jaxpr: closed, as ``jax.make_jaxpr`` gives it.
        args: its arguments, flat.
        places: which equations are changed.
        change: runs them; see :data:`Change`.
        wanted: if given, a set of paths: others are left as they are.

    Returns:
        The results, flat, and the notes by path; of notes from several rounds of a loop, the largest.
    """
    inner, consts = open_jaxpr(jaxpr)
    return _Run(places, change, wanted).through(inner, consts, list(args), ())


def plain(eqn: Any, values: Sequence[Any]) -> list:
    """The results of an equation as it is."""
    params, functions = eqn.primitive.get_bind_params(eqn.params), ()
    if isinstance(params, tuple):  # what other jax versions give
        functions, params = params
    with eqn.ctx.manager:
        out = eqn.primitive.bind(*functions, *values, **params)
    return list(out) if eqn.primitive.multiple_results else [out]


class _Run:
    def __init__(self, places: Places, change: Change, wanted):
        self.places, self.change = places, change
        self.wanted = None if wanted is None else {p[:n] for p in wanted for n in range(len(p) + 1)}

    def through(self, jaxpr, consts, args, path: Path) -> tuple[list, dict[Path, Any]]:
        env = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *args), strict=True))

        def read(atom):
            return atom.val if isinstance(atom, Literal) else env[atom]

        notes: dict[Path, Any] = {}
        count = 0
        for eqn in jaxpr.eqns:
            values = [read(a) for a in eqn.invars]
            chosen = self.places.chosen(eqn)
            if not chosen and not self.places.inside(eqn):
                out = plain(eqn, values)
            else:
                here = (*path, count)
                count += 1
                if self.wanted is not None and here not in self.wanted:
                    out = plain(eqn, values)
                elif chosen:
                    out, note = self.change(here, eqn, values)
                    notes |= {} if note is None else {here: note}
                else:
                    out, inner = self.enter(eqn, values, here)
                    notes |= inner
            env |= zip(eqn.outvars, out, strict=True)
        return [read(a) for a in jaxpr.outvars], notes

    def body(self, eqn, k: int, path: Path) -> Callable[[Sequence], tuple[list, dict[Path, Any]]]:
        inner, consts = open_jaxpr(bodies(eqn)[k][1])
        return lambda args: self.through(inner, consts, list(args), (*path, k))

    def enter(self, eqn, values: list, path: Path) -> tuple[list, dict[Path, Any]]:
        name = eqn.primitive.name
        if name == "scan":
            return self.scan(eqn, values, path)
        if name == "while":
            return self.loop(eqn, values, path)
        if name == "cond":
            return self.branch(eqn, values, path)
        call = self.body(eqn, 0, path)
        if "prevent_cse" in eqn.params:  # recomputation in the backward pass
            return jax.checkpoint(
                lambda *args: call(args),
                prevent_cse=eqn.params["prevent_cse"],
                policy=eqn.params.get("policy"),
            )(*values)
        return call(values)

    def scan(self, eqn, values, path):
        split = scan_split(eqn)
        n = split.num_consts
        consts, carry, xs = (
            values[:n],
            values[n : n + split.num_carry],
            values[n + split.num_carry :],
        )
        call = self.body(eqn, 0, path)

        def step(carry, x):
            out, notes = call([*consts, *carry, *x])
            return out[: split.num_carry], (out[split.num_carry :], notes)

        p = eqn.params
        carry, (ys, notes) = jax.lax.scan(
            step, carry, xs, length=p["length"], reverse=p["reverse"], unroll=p["unroll"]
        )
        return [*carry, *ys], jax.tree.map(lambda x: jnp.max(x, 0, initial=0), notes)

    def loop(self, eqn, values, path):
        split = while_split(eqn)
        n, m = split.num_cond_consts, split.num_cond_consts + split.num_body_consts
        test, test_consts = open_jaxpr(eqn.params["cond_jaxpr"])
        keep = _Run(Places(lambda e: False), self.change, None)
        call = self.body(eqn, 0, path)

        def condition(state):
            return keep.through(test, test_consts, [*values[:n], *state[0]], ())[0][0]

        def step(state):
            out, notes = call([*values[n:m], *state[0]])
            return out, jax.tree.map(jnp.maximum, notes, state[1])

        shapes = jax.eval_shape(lambda carry: call([*values[n:m], *carry])[1], values[m:])
        zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return jax.lax.while_loop(condition, step, (values[m:], zero))

    def branch(self, eqn, values, path):
        index, *rest = values
        calls = [self.body(eqn, k, path) for k in range(len(bodies(eqn)))]
        shapes = [jax.eval_shape(lambda args, c=c: c(args)[1], rest) for c in calls]
        every = {p: x for notes in shapes for p, x in notes.items()}

        def complete(call):
            def branch(args):
                out, notes = call(args)
                return out, {p: notes.get(p, jnp.zeros(x.shape, x.dtype)) for p, x in every.items()}

            return branch

        return jax.lax.switch(index.astype(jnp.int32), [complete(c) for c in calls], rest)

"""The walk over a traced function that finds which weights rescale which values.

Layers are found by structure. A product or a convolution of a value with entries of a leaf begins a
:class:`.Handle`: these entries rescale the result. Sums with other entries (biases) join it, and may shift
the value; a gain begins a new one. The handle ends where the value is read by something else: an activation,
the next layer, a residual sum, or by several equations. There the value is a *place*: a pre-activation, or
what a normalisation gives.

Calls and scans are entered; branches and loops of unknown length are not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..._compat import Literal, is_tracer, open_jaxpr, scan_split
from ...symmetry.rewrite import bodies, plain
from . import views as v
from .rules import Rules, fresh_of
from .views import Computed, Handle, Known, Norm, Root, Use, Value, View, Where

Path = tuple[int, ...]
ELEMENTWISE = {"add", "add_any", "sub", "mul", "div", "max", "pow"}


def entered(eqn: Any) -> tuple[Any, tuple] | None:
    """The traced function that an equation runs as it is (a call, or the step of a scan), or None."""
    if eqn.primitive.name in ("while", "cond"):
        return None
    found = bodies(eqn)
    return open_jaxpr(found[0][1]) if len(found) == 1 else None


class Walk(Rules):
    """Walks over one traced function; read the attributes when it is through.

    Attributes:
        places: the values that can be rescaled, in order.
        norms: the normalisations by stored statistics.
        uses: every reading of entries of a leaf.
        left: layers that nothing rescales, and why.
    """

    def __init__(self) -> None:
        self.sources: list[tuple[View | None, bool]] = []
        self.places: list[tuple[Where, Handle]] = []
        self.norms: list[Norm] = []
        self.uses: list[Use] = []
        self.left: list[str] = []
        self._count = 0
        self._settled: set[int] = set()

    # ------------------------------------------------------------------------------------ bookkeeping
    def source(self, shape: tuple[int, ...], outer: View | None = None, scanned=False) -> View:
        """A leaf, or an argument of a scan's step that is (a slice of) entries of one."""
        self.sources.append((outer, scanned))
        index = np.arange(int(np.prod(shape, dtype=int))).reshape(shape)
        return View(len(self.sources) - 1, index, outer.steps if outer else ())

    def resolve(self, source: int, index: np.ndarray) -> tuple[int, np.ndarray]:
        """The leaf and its entries; one leading axis for each scan around, of size 1 if its steps share them."""
        outer, scanned = self.sources[source]
        if outer is None:
            return source, index
        leaf, found = self.resolve(outer.source, outer.index)
        lead = found.shape[: found.ndim - outer.index.ndim]
        flat = found.reshape(*lead, outer.index.shape[0] if scanned else 1, -1)
        taken = flat[..., index.ravel()].reshape(*flat.shape[:-1], *index.shape)
        return leaf, np.where(index < 0, -1, taken)

    def number(self) -> int:
        self._count += 1
        return self._count

    def use(self, view: View) -> Use:
        found = Use(self.number(), view)
        self.uses.append(found)
        return found

    def consume(self, info: Any) -> None:
        """Something reads it that does not carry its handle on."""
        if isinstance(info, View):
            self.use(info)
        elif isinstance(info, Value) and info.handle is not None:
            handle, where = info.handle, info.where
            if handle.shift is None and handle.before is not None:
                where, handle = handle.before
            if handle.number not in self._settled:
                self._settled.add(handle.number)
                self.places.append((where, handle))

    # ------------------------------------------------------------------------------------------- walking
    def run(self, jaxpr: Any, consts: Sequence[Any], args: Sequence[Any], path: Path) -> list[Any]:
        atoms = [a for e in jaxpr.eqns for a in e.invars] + list(jaxpr.outvars)
        counts = Counter(a for a in atoms if not isinstance(a, Literal))
        known = [Computed() if is_tracer(c) else Known(c) for c in consts]
        env: dict[Any, Any] = {}

        def define(var, info):
            if isinstance(info, Value) and info.handle is not None and counts[var] > 1:
                self.consume(info)
                info = replace(info, handle=None)
            env[var] = info

        for var, info in zip((*jaxpr.constvars, *jaxpr.invars), (*known, *args), strict=True):
            define(var, info)
        for n, eqn in enumerate(jaxpr.eqns):
            infos = [Known(a.val) if isinstance(a, Literal) else env[a] for a in eqn.invars]
            outs = self.apply(eqn, infos, (path, n))
            for var, info in zip(eqn.outvars, outs, strict=True):
                define(var, info)
        return [Known(a.val) if isinstance(a, Literal) else env[a] for a in jaxpr.outvars]

    def apply(self, eqn: Any, infos: list[Any], at: tuple[Path, int]) -> list[Any]:
        """What an equation gives."""
        name = eqn.primitive.name
        if all(isinstance(i, Known) for i in infos):
            return _evaluated(eqn, infos)
        inner = entered(eqn)
        if inner is not None and name == "scan":
            return self.scan(eqn, inner, infos, at)
        if inner is not None:
            return self.run(*inner, infos, (*at[0], at[1]))
        rule = getattr(self, f"_{name}", None)
        if name in ELEMENTWISE:
            infos = [self._as_large(i, eqn.outvars[0].aval.shape) for i in infos]
        if name in v.MOVING or name in v.CHOOSING:
            out = self._moving(eqn, infos[0], at)
        elif rule is not None:
            out = rule(eqn, infos, (*at, 0))
        elif name in ("dynamic_slice", "gather") and isinstance(infos[0], View):
            out = self._chosen(eqn, infos)
        else:
            out = None
        return self.other(eqn, infos, at) if out is None else out

    def _as_large(self, info: Any, shape: tuple[int, ...]) -> Any:
        """An operand as large as the result: single numbers are broadcast without an equation."""
        large = lambda view: View(view.source, np.broadcast_to(view.index, shape), view.steps)  # noqa: E731
        if isinstance(info, View) and info.index.shape != shape:
            return large(info)
        if isinstance(info, Root) and info.view.index.shape != shape:
            factors = tuple(Use(u.number, large(u.view)) for u in info.factors)
            return Root(large(info.view), info.power, factors)
        if isinstance(info, Value) and info.handle is not None and info.handle.units.shape != shape:
            self.consume(info)
            return Value(info.where, info.fresh)
        return info

    def other(self, eqn: Any, infos: list[Any], at: tuple[Path, int]) -> list[Any]:
        """An equation that carries no handle on."""
        for info in infos:
            self.consume(info)
        if not any(isinstance(i, Value) for i in infos):
            return [Computed()] * len(eqn.outvars)
        fresh = fresh_of(infos)
        return [Value((*at, k), fresh) for k in range(len(eqn.outvars))]

    def scan(self, eqn: Any, inner: tuple, infos: list[Any], at: tuple[Path, int]) -> list[Any]:
        split = scan_split(eqn)
        carried = range(split.num_consts, split.num_consts + split.num_carry)
        body, consts = inner
        here = (*at[0], at[1])
        args: list[Any] = []
        for k, (info, var) in enumerate(zip(infos, body.invars, strict=True)):
            where = (here, -1, k)
            scanned = k >= carried.stop
            if k in carried:  # it depends on the inputs after one step, if not before
                self.consume(info)
                args.append(Value(where, info.fresh if isinstance(info, Value) else frozenset()))
            elif isinstance(info, View):
                args.append(self.source(var.aval.shape, info, scanned))
            elif isinstance(info, Value):
                self.consume(info)
                args.append(Value(where, info.fresh))
            else:
                args.append(info if isinstance(info, Known) and not scanned else Computed())
        outs = self.run(body, consts, args, here)
        out = []
        for k, info in enumerate(outs):
            self.consume(info)
            dependent = isinstance(info, Value) or k < split.num_carry
            fresh = info.fresh if isinstance(info, Value) else frozenset()
            out.append(Value((*at, k), fresh) if dependent else Computed())
        return out

    # --------------------------------------------------------------------------------- entries are moved
    def _moving(self, eqn: Any, info: Any, at: tuple[Path, int]) -> list[Any] | None:
        name = eqn.primitive.name
        move = lambda x: v.moved(eqn, x)  # noqa: E731
        if isinstance(info, View):
            return [View(info.source, i, info.steps) for i in move(info.index)]
        if isinstance(info, Computed) and info.product is not None:
            return [Computed(r) for r in self._moving(eqn, info.product, at) or ()]
        if isinstance(info, Root):
            parts = [u.view for u in info.factors]
            indices = zip(move(info.view.index), *(move(p.index) for p in parts), strict=True)
            return [
                Root(
                    View(info.view.source, i, info.view.steps),
                    info.power,
                    tuple(
                        Use(u.number, View(u.view.source, j, u.view.steps))
                        for u, j in zip(info.factors, rest, strict=True)
                    ),
                )
                for i, *rest in indices
            ]
        if isinstance(info, Value) and name in v.MOVING:
            where = (*at, 0)
            h = info.handle
            if h is not None:
                h = replace(h, units=move(h.units)[0])
            kept = (info.centred, info.divided) if name in v.SAME else (None, None)
            return [Value(where, info.fresh, h, *kept)]
        return None

    def _chosen(self, eqn: Any, infos: list[Any]) -> list[Any] | None:
        """Entries chosen by numbers that are known: a layer of a stack."""
        if not all(isinstance(i, Known) for i in infos[1:]):
            return None
        index = Known(jnp.asarray(infos[0].index, jnp.int32))
        found = _evaluated(eqn, [index, *infos[1:]])[0]
        if not isinstance(found, Known):
            return None
        return [View(infos[0].source, np.asarray(found.value), infos[0].steps)]


def _evaluated(eqn: Any, infos: list[Any]) -> list[Any]:
    with jax.ensure_compile_time_eval():
        try:
            return [Known(x) for x in plain(eqn, [i.value for i in infos])]
        except Exception:  # what cannot be run by itself is not known
            return [Computed()] * len(eqn.outvars)

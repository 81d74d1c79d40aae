"""Generators as JSON values and as rows of the table that ``print(spec)`` shows."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from .kinds import KINDS, Carry, Gain, Generator, Phase, Shift, Term


def to_data(gen: Generator) -> dict[str, Any]:
    """A generator as JSON values."""
    return {"kind": gen.kind, **asdict(gen)}


def from_data(data: dict[str, Any]) -> Generator:
    """The generator that :func:`to_data` wrote.

    Raises:
        ValueError: for an unknown kind.
    """
    data = dict(data)
    kind = data.pop("kind")
    if kind not in KINDS:
        raise ValueError(f"unknown kind of generator {kind!r}; known: {tuple(KINDS)}")
    cls = KINDS[kind]
    known = {f.name for f in fields(cls)}
    plain = {k: _tuples(v) for k, v in data.items() if k in known - {"terms", "carries", "gains"}}
    if data.get("gains"):
        plain["gains"] = tuple(Gain(**g) for g in data["gains"])
    terms = tuple(Term(**{k: _tuples(v) for k, v in t.items()}) for t in data["terms"])
    return cls(
        **plain,
        terms=terms,
        carries=tuple(map(_carry, data["carries"])),
    )


def _carry(data: dict[str, Any]) -> Carry:
    plain = {k: _tuples(v) for k, v in data.items() if k != "gains"}
    return Carry(**plain, gains=tuple(Gain(**g) for g in data.get("gains", ())))


def _tuples(x: Any) -> Any:
    return tuple(map(_tuples, x)) if isinstance(x, (list, tuple)) else x


def row(gen: Generator) -> tuple[str, str, str, str]:
    """Name, group, copies and places of a generator."""
    copies = " x ".join(f"{o} ({n})" for o, n in zip(gen.over, gen.sizes, strict=True)) or "-"
    n = gen.size
    group = {
        "scale": f"R+^{n}",
        "sign": f"Z2^{n}",
        "linear": f"GL({n})",
        "orthogonal": f"O({n})" if not getattr(gen, "centred", False) else f"O({n - 1})",
        "uniform": "R+",
        "shift": "R",
        "phase": "Z",
    }[gen.kind]
    if pairs := getattr(gen, "pairs", ()):
        group = f"C*^{len(pairs)}"
    if isinstance(gen, Phase):
        places = [f"{gen.target} + {gen.step:g} k"]
        places += [f"{_place(t, 'sign')} (-1)^k" for t in gen.terms]
    elif isinstance(gen, Shift):
        along = ",".join(map(str, gen.constant))
        how = f"{len(gen.basis)} vectors" if gen.basis else "constant"
        places = [gen.target + (f" {how} along axis {along}" if along else "")]
        places[0] += "".join(f" at {i} of axis {k}" for k, i in gen.part)
        places[0] += "".join(f" times {_gain(h)}" for h in gen.gains)
        places += [f"{t.block} times {t.exponent:g}" for t in gen.terms]
    else:
        places = [_place(t, gen.kind) for t in gen.terms]
    places += [f"{c.bias} by way of {', '.join(_way(c))}" for c in gen.carries]
    return gen.name, group, copies, ", ".join(places)


def _way(carry: Carry) -> list[str]:
    return [*([carry.weight] if carry.weight else []), *map(_gain, carry.gains)]


def _gain(h: Gain) -> str:
    text = f"({h.block} + {h.offset:g})" if h.offset else h.block
    return text if h.power == 1 else f"{text}^{h.power:g}"


def _place(term: Term, kind: str) -> str:
    text = term.block + ("" if term.axis is None else f".{term.axis}")
    if term.part:
        text += "[" + ",".join(f"{k}={i}" for k, i in term.part) + "]"
    if term.offset:
        text = f"({text} + {term.offset:g})"
    if term.through:
        text = f"({' '.join(term.through)} {text})"
    if term.under:
        text = f"({text} / {' '.join(term.under)})"
    if kind in ("scale", "uniform"):
        return f"{text}^{term.exponent:g}"
    return f"{text}^-1" if kind == "linear" and term.exponent < 0 else text

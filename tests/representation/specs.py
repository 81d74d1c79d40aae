"""Hand-written specs that between them use all of the axis grammar, and a brute-force group action."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from wsljax import symmetry
from wsljax.representation import structure


def spec_of(leaves: Mapping[str, tuple[tuple[int, ...], str]]) -> symmetry.Spec:
    """``{path: (shape, annotation)}`` to a spec of a dict of arrays."""
    like = {path: jax.ShapeDtypeStruct(shape, jnp.float32) for path, (shape, _) in leaves.items()}
    return symmetry.parse(like, {path: text for path, (_, text) in leaves.items()})


def params_of(
    spec: symmetry.Spec, key: jax.Array, dtype: Any = jnp.float64
) -> dict[str, jax.Array]:
    keys = jax.random.split(key, len(spec.leaves))
    return {
        x.path: jax.random.normal(k, x.shape, dtype) for x, k in zip(spec.leaves, keys, strict=True)
    }


def features_of(
    spec: symmetry.Spec, channels: int, key: jax.Array, dtype: Any = jnp.float64
) -> dict[str, jax.Array]:
    blocks = structure(spec)
    return {
        b.name: jax.random.normal(k, (*(spec.size_of(a) for a in b.labels), channels), dtype)
        for b, k in zip(blocks, jax.random.split(key, len(blocks)), strict=True)
    }


SPECS = {
    "mlp": {
        "w0": ((2, 4), "_ a"),
        "b0": ((4,), "a"),
        "w1": ((4, 5), "a b"),
        "b1": ((5,), "b"),
        "w2": ((5, 3), "b _"),
        "b2": ((3,), "_"),
    },
    "rnn": {"x": ((3, 5), "_ h"), "w": ((5, 5), "h h"), "b": ((5,), "h")},
    "thrice": {"t": ((4, 4, 4), "h h h"), "v": ((4,), "h")},
    "four times": {"t": ((4, 4, 4, 4), "h h h h"), "w": ((4, 3), "h g")},
    "lstm": {
        "wi": ((3, 16), "_ h+h+h+h"),
        "wh": ((4, 16), "h h+h+h+h"),
        "b": ((16,), "h+h+h+h"),
    },
    "flatten": {
        "k": ((3, 3, 2, 5), "_ _ _ c"),
        "b": ((5,), "c"),
        "w": ((20, 3), "(_4 c) _"),
    },
    "heads": {
        "q": ((6, 2, 3), "d h q[h]"),
        "k": ((6, 2, 3), "d h q[h]"),
        "v": ((6, 2, 4), "d h v[h]"),
        "o": ((2, 4, 6), "h v[h] d"),
        "n": ((6,), "d"),
    },
    "merged heads": {
        "q": ((4, 6), "d (h=2 q[h])"),
        "k": ((4, 6), "d (h q[h])"),
        "o": ((6, 4), "(h v[h]) d"),
        "v": ((4, 6), "d (h v[h])"),
    },
    "packed heads": {
        "qkv": ((4, 3, 2, 3), "d _1+_1+_1 h q[h]|q[h]|v[h]"),
        "o": ((2, 3, 4), "h v[h] d"),
    },
    "twice nested": {
        "w": ((2, 3, 3), "h m[h] m[h]"),
        "v": ((4, 2, 3), "d h m[h]"),
        "n": ((4,), "d"),
    },
    "nested in nested": {
        "w": ((2, 2, 3), "a b[a] c[a,b]"),
        "v": ((2, 2), "a b[a]"),
        "u": ((3,), "_"),
    },
    "scanned": {
        "w": ((3, 4, 5), "_L d m[_L]"),
        "v": ((3, 5, 4), "_L m[_L] d"),
        "n": ((3, 4), "_L d"),
        "e": ((7, 4), "_ d"),
    },
    "scanned heads": {
        "q": ((2, 4, 2, 3), "_L d h[_L] q[_L,h]"),
        "o": ((2, 2, 3, 4), "_L h[_L] q[_L,h] d"),
    },
    "shortcut": {"w": ((6, 4), "a+b c"), "u": ((2,), "a"), "v": ((4,), "b")},
    "experts": {
        "router": ((4, 3), "d e"),
        "up": ((3, 4, 5), "e d m[e]"),
        "down": ((3, 5, 4), "e m[e] d"),
    },
    "width one": {"w": ((3, 1), "a b"), "v": ((1, 4), "b c"), "u": ((1,), "b"), "s": ((), "")},
    "transposed": {
        "w": ((4, 3), "b a"),
        "v": ((3, 4), "a b"),
        "u": ((3, 5), "a c"),
        "z": ((5, 4), "c b"),
    },
}
"""What must hold for any spec is tested on each of these."""


def generators(spec: symmetry.Spec) -> Iterator[dict[str, np.ndarray]]:
    """Elements that generate the group with the named fixed axes permuted as well (as layers do).

    For every unit, and every index of its parents, a transposition and a cycle.
    """
    names = sorted({label for block in structure(spec) for label in block.labels})
    over = {u.name: u.over for u in spec.units}
    one = {
        name: np.broadcast_to(
            np.arange(spec.size_of(name)),
            (*(spec.size_of(o) for o in over.get(name, ())), spec.size_of(name)),
        )
        for name in names
    }
    for name in names:
        n = spec.size_of(name)
        moves = [np.roll(np.arange(n), 1), np.array([1, 0, *range(2, n)])] if n > 1 else []
        for copy in itertools.product(*(range(spec.size_of(o)) for o in over.get(name, ()))):
            for move in moves:
                changed = one[name].copy()
                changed[copy] = move
                yield {**one, name: changed}


def act(
    spec: symmetry.Spec, g: Mapping[str, np.ndarray], features: Mapping[str, Any]
) -> dict[str, Any]:
    """``new[.., h, .., j] = old[.., pi[h], .., sigma[h, j]]``, written out from that formula."""
    over = {u.name: u.over for u in spec.units}
    out = {}
    for block in structure(spec):
        x = np.asarray(features[block.name])
        grid = np.indices(x.shape[:-1])
        source = []
        for k, label in enumerate(block.labels):
            at = tuple(grid[block.labels.index(o)] for o in over.get(label, ()))
            source.append(np.asarray(g[label])[(*at, grid[k])] if label in g else grid[k])
        out[block.name] = x[tuple(source)] if source else x
    return out


def flat(spec: symmetry.Spec, features: Mapping[str, Any]) -> np.ndarray:
    """All features of one channel as a vector."""
    return np.concatenate([np.asarray(features[b.name]).reshape(-1) for b in structure(spec)])


def unflat(spec: symmetry.Spec, vector: Any) -> dict[str, Any]:
    """The inverse of :func:`flat`."""
    out, at = {}, 0
    for block in structure(spec):
        shape = [spec.size_of(a) for a in block.labels]
        n = int(np.prod(shape))
        out[block.name] = vector[at : at + n].reshape(*shape, 1)
        at += n
    return out


def moves(spec: symmetry.Spec) -> list[np.ndarray]:
    """Every generator as a permutation of the flat features: ``new = old[move]``."""
    size = sum(int(np.prod([spec.size_of(a) for a in b.labels])) for b in structure(spec))
    return [flat(spec, act(spec, g, unflat(spec, np.arange(size)))) for g in generators(spec)]


def orbits(size: tuple[int, int], pairs: list[tuple[np.ndarray, np.ndarray]]) -> int:
    """How many orbits a group has on pairs ``(i, j)``; by the generators' actions on both."""
    rows, columns = size
    label = np.arange(rows * columns).reshape(rows, columns)
    while True:
        before = label
        for a, b in pairs:
            label = np.minimum(label, label[a][:, b])
            back = np.empty_like(label)
            back[np.ix_(a, b)] = label  # along the inverse as well, so labels only fall
            label = np.minimum(label, back)
        if (label == before).all():
            return len(np.unique(label))

"""Data, networks and starts of `experiments/symmetry_aware_optimisers.py`."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments._digits import Digits, load_digits
from wsljax import symmetry

KINDS = ("permutation", "scale", "uniform")


class Problem(NamedTuple):
    """A network on data: `apply(params, x, reference)`; `starts` make weights from a key."""

    name: str
    apply: Callable[[Any, jax.Array, jax.Array], jax.Array]
    spec: symmetry.Spec
    starts: dict[str, Callable[[jax.Array], Any]]
    example: tuple[jax.Array, ...]


def load(folder: str) -> Digits:
    """The embedded digits, or MNIST-like idx files (.gz or not) in a folder.

    Raises:
        FileNotFoundError: naming the file that the folder lacks.
    """
    if not folder:
        return load_digits()
    parts = [
        _idx(Path(folder), f"{part}-{kind}")
        for part in ("train", "t10k")
        for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
    ]
    train_x, train_y, test_x, test_y = parts
    train_x, test_x = (v.reshape(len(v), -1).astype(np.float32) for v in (train_x, test_x))
    mean, deviation = train_x.mean(0), train_x.std()
    x, y = ((v - mean) / deviation for v in (train_x, test_x))
    return Digits(
        jnp.asarray(x),
        jnp.asarray(train_y, jnp.int32),
        jnp.asarray(y),
        jnp.asarray(test_y, jnp.int32),
    )


def _idx(folder: Path, name: str) -> np.ndarray:
    for path in (folder / f"{name}.gz", folder / name):
        if path.exists():
            raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            rank = raw[3]
            shape = np.frombuffer(raw, ">i4", rank, 4)
            return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)
    raise FileNotFoundError(f"{folder} has no {name}.gz; see --help")


def relu_network(inputs: int, width: int, spread: float) -> Problem:
    """inputs-width-width-10 with ReLU; balanced, and rescaled by a random element of the group."""

    def apply(p, x, reference):
        h = jax.nn.relu(x @ p["w0"] + p["b0"])
        h = jax.nn.relu(h @ p["w1"] + p["b1"])
        return h @ p["w2"] + p["b2"]

    def balanced(key):
        keys = jax.random.split(key, 3)
        sizes = (inputs, width, width, 10)
        p = {}
        for i, k in enumerate(keys):
            p[f"w{i}"] = jax.random.normal(k, sizes[i : i + 2]) * (2 / sizes[i]) ** 0.5
            p[f"b{i}"] = jnp.zeros(sizes[i + 1])
        return p

    example = jax.random.normal(jax.random.key(0), (16, inputs))
    spec = symmetry.infer(
        lambda p, x: apply(p, x, x), balanced(jax.random.key(1)), example, kinds=KINDS
    )

    def unbalanced(key):
        k1, k2 = jax.random.split(key)
        zero = spec.algebra(kinds=("scale",))
        keys = jax.random.split(k2, len(zero))
        logs = {
            n: spread * jax.random.normal(k, v.shape)
            for k, (n, v) in zip(keys, zero.items(), strict=True)
        }
        return spec.act(spec.exp(logs), balanced(k1))

    def same(key):
        return balanced(jax.random.split(key)[0])

    starts = {"balanced": same, "unbalanced": unbalanced}
    return Problem("ReLU", apply, spec, starts, (example,))


def batch_norm_network(inputs: int, width: int) -> Problem:
    """The same with batch normalisation (no epsilon) before each ReLU.

    Statistics are those of `reference`: the batch in training, the training data for the test.
    """

    def apply(p, x, reference):
        for i in range(2):
            x, reference = x @ p[f"w{i}"], reference @ p[f"w{i}"]
            mean, deviation = reference.mean(0), reference.std(0)
            x, reference = (
                jax.nn.relu((v - mean) / deviation * p[f"g{i}"] + p[f"s{i}"])
                for v in (x, reference)
            )
        return x @ p["w2"] + p["b2"]

    def start(key):
        keys = jax.random.split(key, 3)
        sizes = (inputs, width, width, 10)
        p = {
            f"w{i}": jax.random.normal(k, sizes[i : i + 2]) * (2 / sizes[i]) ** 0.5
            for i, k in enumerate(keys)
        }
        for i in range(2):
            p |= {f"g{i}": jnp.ones(width), f"s{i}": jnp.zeros(width)}
        return p | {"b2": jnp.zeros(10)}

    example = jax.random.normal(jax.random.key(0), (32, inputs))
    spec = symmetry.infer(
        lambda p, x: apply(p, x, x), start(jax.random.key(1)), example, kinds=KINDS
    )
    return Problem("batch norm", apply, spec, {"He": start}, (example,))

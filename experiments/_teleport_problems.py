"""The problems of the teleportation study: test functions, small regressions, classifiers, a transformer."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments._digits import load_digits
from wsljax.understanding.teleportation import Action

REFERENCE = Path(__file__).parent / "results" / "teleportation_reference.json"


class Function(NamedTuple):
    """A function of two numbers that is ``|u|^2`` in other coordinates, which rotations leave unchanged."""

    loss: Callable[[jax.Array], jax.Array]
    action: Action
    start: jax.Array
    learning_rate: float
    steps: int
    teleports: tuple[int, ...]


def _rotation(there: Callable, back: Callable) -> Action:
    def act(v, p):
        a, b = there(p)
        c, s = jnp.cos(v), jnp.sin(v)
        return back(a * c - b * s, a * s + b * c)

    return Action(act, jnp.zeros(()))


def rosenbrock() -> Function:
    """Zhao et al. 2022: rotations of ``(10 (x^2 - y), x - 1)``."""
    there = lambda p: (10 * (p[0] ** 2 - p[1]), p[0] - 1)  # noqa: E731
    back = lambda u, v: jnp.stack([v + 1, (v + 1) ** 2 - u / 10])  # noqa: E731
    loss = lambda p: sum(c**2 for c in there(p))  # noqa: E731
    start = jnp.array([-1.0, -1.0])
    return Function(loss, _rotation(there, back), start, 1e-3, 1000, tuple(range(99, 1000, 100)))


def booth() -> Function:
    """Zhao et al. 2022: rotations of ``(x + 2y - 7, 2x + y - 5)``."""
    there = lambda p: (p[0] + 2 * p[1] - 7, 2 * p[0] + p[1] - 5)  # noqa: E731
    back = lambda u, v: jnp.stack([(2 * v - u) / 3 + 1, (2 * u - v) / 3 + 3])  # noqa: E731
    loss = lambda p: sum(c**2 for c in there(p))  # noqa: E731
    return Function(loss, _rotation(there, back), jnp.array([5.0, -5.0]), 0.08, 10, (4,))


def reference() -> dict[str, Any]:
    """Figures recorded from the original, and the weights and data it started from."""
    return json.loads(REFERENCE.read_text())


def leaky(x: jax.Array) -> jax.Array:
    return jnp.where(x > 0, x, 0.1 * x)


def leaky_inverse(x: jax.Array) -> jax.Array:
    return jnp.where(x > 0, x, 10 * x)


def logit(a: jax.Array) -> jax.Array:
    return jnp.log(a) - jnp.log1p(-a)


def regression(activation: Callable) -> Callable[..., jax.Array]:
    """``loss(kernels, x, y)`` of the bias-free network of Zhao et al. 2022."""

    def loss(kernels, x, y):
        for w in kernels[:-1]:
            x = activation(x @ w)
        return 0.5 * jnp.sum((x @ kernels[-1] - y) ** 2)

    return loss


class Images(NamedTuple):
    """Flat float32 images and labels, for training and for testing."""

    train_x: jax.Array
    train_y: jax.Array
    test_x: jax.Array
    test_y: jax.Array


def images(name: str, folder: str, most: int) -> Images:
    """The digits of scikit-learn, or the MNIST-like files in ``folder/name`` (at most ``most`` for training)."""
    if name == "digits":
        return Images(*load_digits())

    def read(file: str, offset: int) -> np.ndarray:
        path = Path(folder) / name / f"{file}.gz"
        if not path.exists():
            raise FileNotFoundError(
                f"{path} is missing: `--data` must hold {name}/ with idx .gz files"
            )
        return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=offset)

    parts = []
    for part in ("train", "t10k"):
        x = read(f"{part}-images-idx3-ubyte", 16).reshape(-1, 784).astype("float32") / 255
        parts += [x, read(f"{part}-labels-idx1-ubyte", 8).astype("int32")]
    train_x, train_y, test_x, test_y = parts
    pick = np.random.default_rng(0).permutation(len(train_x))[:most]
    mean, spread = train_x[pick].mean(), train_x[pick].std()
    scaled = [(x - mean) / spread for x in (train_x[pick], test_x)]
    return Images(*map(jnp.asarray, (scaled[0], train_y[pick], scaled[1], test_y)))


def mlp(p: Any, x: jax.Array) -> jax.Array:
    """A leaky ReLU network with biases: a list of ``(kernel, bias)``."""
    for w, b in p[:-1]:
        x = leaky(x @ w + b)
    return x @ p[-1][0] + p[-1][1]


def init_mlp(sizes: tuple[int, ...], key: jax.Array) -> list:
    keys = jax.random.split(key, len(sizes) - 1)
    return [
        (jax.random.normal(k, (a, b)) * (2 / a) ** 0.5, jnp.zeros(b))
        for k, a, b in zip(keys, sizes[:-1], sizes[1:])
    ]


def transformer(p: Any, x: jax.Array) -> jax.Array:
    """One pre-norm block on the rows of an image as tokens: ``x`` of shape (pixels,), one image."""
    side = round(x.size**0.5)
    h = x.reshape(side, side) @ p["embed"] + p["position"]
    a = _norm(h)
    q, k, v = (jnp.einsum("td,dhk->thk", a, p[n]) for n in ("query", "key", "value"))
    scores = jnp.einsum("thk,shk->hts", q, k) / q.shape[-1] ** 0.5
    h = h + jnp.einsum("hts,shk,hkd->td", jax.nn.softmax(scores), v, p["out"])
    h = h + jax.nn.gelu(_norm(h) @ p["up"]) @ p["down"]
    return _norm(h).mean(0) @ p["head"]


def _norm(h: jax.Array) -> jax.Array:
    return h * jax.lax.rsqrt(jnp.mean(h**2, -1, keepdims=True) + 1e-6)


def init_transformer(side: int, key: jax.Array, width: int = 24, heads: int = 3) -> dict:
    k = iter(jax.random.split(key, 9))
    dims = width // heads

    def normal(*shape, into):
        return jax.random.normal(next(k), shape) / into**0.5

    return {
        "embed": normal(side, width, into=side),
        "position": normal(side, width, into=width),
        "query": normal(width, heads, dims, into=width),
        "key": normal(width, heads, dims, into=width),
        "value": normal(width, heads, dims, into=width),
        "out": normal(heads, dims, width, into=width),
        "up": normal(width, 2 * width, into=width),
        "down": normal(2 * width, width, into=2 * width),
        "head": normal(width, 10, into=width),
    }


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], -1)
    return -jnp.mean(chosen)

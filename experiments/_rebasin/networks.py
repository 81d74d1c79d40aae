"""Networks of `experiments/rebasin.py`: MLPs, residual networks with either normalisation, transformers.

The residual network is that of the published comparison at a smaller depth (S. Ainsworth et al. 2023; K. He et
al. 2016): a convolution, three stages of blocks whose width doubles and whose images are halved, the mean over
positions, a dense layer. Its normalisation is over channels (LayerNorm) or over the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from configs.rebasin import Row
from wsljax import zoo
from wsljax.zoo.architectures.cnn import convolve

CLASSES, ALPHABET = 10, 40
EPSILON = 1e-5


class Network(NamedTuple):
    """What is trained.

    Attributes:
        init: `init(key) -> params`, one network.
        apply: `apply(params, x) -> logits`, as it is measured: stored statistics are read.
        in_training: likewise in training: those of the batch are used.
        stored: whether there are stored statistics, which are to be measured after training.
    """

    init: Callable[[jax.Array], Any]
    apply: Callable[[Any, jax.Array], jax.Array]
    in_training: Callable[[Any, jax.Array], jax.Array]
    stored: bool = False


def make_network(row: Row) -> Network:
    """The network of a row.

    Raises:
        ValueError: an unknown network, or options that it does not know.
    """
    if row.network not in NETWORKS:
        raise ValueError(f"network {row.network!r}: there are {', '.join(NETWORKS)}.")
    try:
        return NETWORKS[row.network](row.width, row.side, **row.options)
    except TypeError as e:
        raise ValueError(f"options of {row.network!r}: {e}") from None


def _of_zoo(function: zoo.Function) -> Network:
    init = lambda key: function.init(key=key)  # noqa: E731
    return Network(init, function.apply, function.apply)


def _mlp(width: int, side: int, *, layers: int = 3, initialiser: str = "lecun_normal") -> Network:
    widths = (side * side, *(width,) * layers, CLASSES)
    return _of_zoo(zoo.Function("mlp", {"widths": widths, "initialiser": initialiser}))


def _vit(width: int, side: int, *, layers: int = 2, heads: int = 4) -> Network:
    return _of_zoo(zoo.Function("transformer", {
        "image": (side, side, 1), "patch": side // 4, "width": width, "heads": heads,
        "layers": layers, "mlp_width": 2 * width, "outputs": CLASSES,
    }))  # fmt: skip


def _gpt(width: int, side: int, *, layers: int = 2, heads: int = 4, length: int = 32) -> Network:
    return _of_zoo(zoo.Function("transformer", {
        "tokens": ALPHABET, "length": length, "width": width, "heads": heads, "layers": layers,
        "mlp_width": 2 * width, "outputs": ALPHABET, "causal": True, "head": "each",
    }))  # fmt: skip


def _resnet(width: int, side: int, *, norm: str = "layer", blocks: int = 1) -> Network:
    if norm not in ("layer", "batch"):
        raise ValueError(f"norm: {norm!r}; 'layer' or 'batch'.")
    # name, window, channels in and out: all convolutions, each with a normalisation
    layers: list[tuple[str, int, int, int]] = [("stem", 3, 1, width)]
    inside, plan = width, []
    for stage in range(3):
        for block in range(blocks):
            out, name = width * 2**stage, f"stage_{stage}/block_{block}"
            stride = 2 if stage and not block else 1
            layers += [(f"{name}/conv_0", 3, inside, out), (f"{name}/conv_1", 3, out, out)]
            shortcut = inside != out
            if shortcut:
                layers.append((f"{name}/shortcut", 1, inside, out))
            plan.append((name, stride, shortcut))
            inside = out

    def init(key: jax.Array) -> dict[str, Any]:
        keys = jax.random.split(key, len(layers) + 1)
        params: dict[str, Any] = {}
        for (name, window, n, m), k in zip(layers, keys[:-1], strict=True):
            deviation = (2 / (window * window * n)) ** 0.5
            params[name] = {
                "kernel": deviation * jax.random.normal(k, (window, window, n, m)),
                "scale": jnp.ones(m), "bias": jnp.zeros(m),
            }  # fmt: skip
            if norm == "batch":
                params[name] |= {"mean": jnp.zeros(m), "variance": jnp.ones(m)}
        dense = jax.random.normal(keys[-1], (inside, CLASSES)) * inside**-0.5
        return params | {"dense": {"kernel": dense, "bias": jnp.zeros(CLASSES)}}

    def forward(params: Any, x: jax.Array, training: bool) -> jax.Array:
        def layer(name: str, x: jax.Array, stride: int = 1) -> jax.Array:
            p = params[name]
            x = convolve({"kernel": p["kernel"]}, x, stride, "SAME")
            if norm == "layer":
                mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
            elif training:
                mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
            else:
                mean, variance = p["mean"], p["variance"]
            return (x - mean) / jnp.sqrt(variance + EPSILON) * p["scale"] + p["bias"]

        x = jax.nn.relu(layer("stem", x))
        for name, stride, shortcut in plan:
            y = jax.nn.relu(layer(f"{name}/conv_0", x, stride))
            y = layer(f"{name}/conv_1", y)
            x = jax.nn.relu(y + (layer(f"{name}/shortcut", x, stride) if shortcut else x))
        return x.mean((1, 2)) @ params["dense"]["kernel"] + params["dense"]["bias"]

    return Network(
        init,
        lambda params, x: forward(params, x, False),
        lambda params, x: forward(params, x, True),
        stored=norm == "batch",
    )


NETWORKS: dict[str, Callable[..., Network]] = {
    "mlp": _mlp, "resnet": _resnet, "vit": _vit, "gpt": _gpt,
}  # fmt: skip

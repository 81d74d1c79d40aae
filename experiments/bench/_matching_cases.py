"""Weights and specs of the matching bench: the networks of the published comparison, and residual chains.

A network is a flat dict of leaves with one line of annotation each. Weights are drawn, not trained: kernels
normal with variance one over their fan-in, norm scales one, biases zero. `all` in a case's name: biases
and scales are normal as well. Planted: one network is a permuted copy of the other plus noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import jax
import jax.numpy as jnp
import numpy as np

from wsljax import symmetry

Leaves = Mapping[str, tuple[tuple[int, ...], str]]


def mlp(*widths: int) -> dict[str, tuple[tuple[int, ...], str]]:
    last = len(widths) - 2
    label = lambda k: "_" if k < 0 or k > last - 1 else f"h{k}"  # noqa: E731
    out = {}
    for k, (n, m) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        out[f"Dense_{k}/kernel"] = (n, m), f"{label(k - 1)} {label(k)}"
        out[f"Dense_{k}/bias"] = (m,), label(k)
    return out


def vgg16(classifier: int) -> dict[str, tuple[tuple[int, ...], str]]:
    channels = [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    out, before, name = {}, 3, "_"
    for k, n in enumerate(channels):
        out[f"Conv_{k}/kernel"] = (3, 3, before, n), f"_ _ {name} c{k}"
        for leaf in (f"Conv_{k}/bias", f"LayerNorm_{k}/scale", f"LayerNorm_{k}/bias"):
            out[leaf] = (n,), f"c{k}"
        before, name = n, f"c{k}"
    for k, n in enumerate((classifier, classifier, 10)):
        label = f"d{k}" if k < 2 else "_"
        out[f"Dense_{k}/kernel"] = (before, n), f"{name} {label}"
        out[f"Dense_{k}/bias"] = (n,), label
        before, name = n, label
    return out


def resnet20(width: int) -> dict[str, tuple[tuple[int, ...], str]]:
    out: dict[str, tuple[tuple[int, ...], str]] = {}

    def conv(name, n, m, read, write, norm):
        out[f"{name}/kernel"] = (3, 3, n, m), f"_ _ {read} {write}"
        out[f"{norm}/scale"], out[f"{norm}/bias"] = ((m,), write), ((m,), write)

    n, stream = 16 * width, "g0"
    conv("conv1", 3, n, "_", stream, "norm1")
    for g in range(3):
        m, after = 16 * width * 2**g, f"g{g}"
        for b in range(3):
            at = f"blockgroups_{g}/blocks_{b}"
            inner = f"i{g}{b}"
            conv(f"{at}/conv1", n, m, stream, inner, f"{at}/norm1")
            conv(f"{at}/conv2", m, m, inner, after, f"{at}/norm2")
            if g and not b:
                conv(f"{at}/shortcut/layers_0", n, m, stream, after, f"{at}/shortcut/layers_1")
            n, stream = m, after
    out["dense/kernel"], out["dense/bias"] = ((n, 10), f"{stream} _"), ((10,), "_")
    return out


def residual(depth: int, ends: int, width: int = 32, hidden: int = 64):
    out = {"in": ((ends, width), "_ s"), "out": ((width, ends), "s _")}
    for k in range(depth):
        out[f"up{k}"] = (width, hidden), f"s m{k}"
        out[f"down{k}"] = (hidden, width), f"m{k} s"
    return out


def spec_of(leaves: Leaves) -> symmetry.Spec:
    like = {n: jax.ShapeDtypeStruct(shape, jnp.float32) for n, (shape, _) in leaves.items()}
    return symmetry.parse(like, {n: text for n, (_, text) in leaves.items()})


def axes_to_perm(leaves: Leaves) -> dict[str, tuple[str | None, ...]]:
    """The same annotation as a table of the published form."""
    return {
        n: tuple(None if axis == "_" else axis for axis in text.split())
        for n, (_, text) in leaves.items()
    }


def draw(leaves: Leaves, seed: int, *, everything: bool = False, plain: bool = False):
    """Random weights; ``plain``: all entries standard normal."""
    rng = np.random.default_rng(seed)
    out = {}
    for n, (shape, _) in leaves.items():
        if len(shape) > 1:
            x = rng.normal(size=shape) * (1.0 if plain else prod(shape[:-1]) ** -0.5)
        elif everything or plain:
            x = rng.normal(size=shape)
        else:
            x = np.full(shape, 1.0 if n.endswith("scale") else 0.0)
        out[n] = jnp.asarray(x, jnp.float32)
    return out


def plant(spec: symmetry.Spec, a, seed: int, noise: float = 0.3):
    """A permuted, noisy copy of ``a`` and the element that brings it back."""
    rng = np.random.default_rng(seed + 10_000)
    noisy = {
        n: x + jnp.asarray(noise * float(jnp.std(x)) * rng.normal(size=x.shape), x.dtype)
        for n, x in a.items()
    }
    g = jax.jit(spec.sample)(jax.random.key(seed))
    return jax.jit(spec.act)(spec.inverse(g), noisy), g

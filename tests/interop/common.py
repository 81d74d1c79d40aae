"""What the tests of interop share: random tensors, and the judgement of a network that was read."""

import math

import jax
import numpy as np

from wsljax import symmetry

TOLERANCE = 1e-4  # relative to the largest output, in float32
BROKEN = 1e-3


def log_order(group):
    """Of a product of symmetric groups, given as (size, independent copies)."""
    return sum(copies * math.lgamma(size + 1) for size, copies in group)


def error(got, want):
    """Largest difference, relative to the largest entry."""
    want = np.asarray(want)
    assert np.shape(got) == want.shape
    return float(np.abs(np.asarray(got) - want).max() / np.abs(want).max())


def judge(fn, params, *inputs, group):
    """The spec is the group derived by hand, acts, leaves the function as it is; controls break it."""
    spec = symmetry.infer(fn, params, *inputs, kinds=("permutation",))
    assert spec.units
    assert math.isclose(spec.log_order(), log_order(group), rel_tol=1e-9), f"{group}\n{spec}"
    changes = symmetry.check(fn, params, spec, *inputs, key=jax.random.key(0))
    assert max(changes.values()) < 1e-5, changes
    moved = spec.act(spec.sample(jax.random.key(1)), params)
    leaves = zip(jax.tree.leaves(moved), jax.tree.leaves(params))
    assert any(not np.array_equal(a, b) for a, b in leaves)
    assert control(fn, params, spec, inputs) > BROKEN, "one leaf moved alone changes nothing"
    return spec


def control(fn, params, spec, inputs):
    """Change of the output when single leaves are moved alone: if none matters, the check is blind."""
    moved = spec.act(spec.sample(jax.random.key(1)), params)
    leaves, structure = jax.tree.flatten(params)
    others = jax.tree.leaves(moved)
    run = jax.jit(fn)
    base = jax.tree.leaves(run(params, *inputs))[0]
    worst = 0.0
    for i in range(len(leaves)):
        mixed = jax.tree.unflatten(structure, [*leaves[:i], others[i], *leaves[i + 1 :]])
        worst = max(worst, error(jax.tree.leaves(run(mixed, *inputs))[0], base))
    return worst


class Tensors(dict):
    """A state dict of random tensors, filled by shape."""

    def __init__(self, seed=0, scale=0.5):
        self.random, self.scale = np.random.default_rng(seed), scale

    def add(self, **shapes):
        """Names with `__` for dots."""
        for name, shape in shapes.items():
            self.put(name.replace("__", "."), shape)
        return self

    def put(self, name, shape):
        x = self.random.normal(size=shape) * self.scale
        if name.endswith("running_var"):
            x = 0.5 + np.abs(x)
        self[name] = x.astype(np.float32)

    def layer(self, name, *shape, bias=True):
        """A kernel (out, in, ...) and a bias."""
        self.put(f"{name}.weight", shape)
        if bias:
            self.put(f"{name}.bias", shape[:1])
        return self

    def norm(self, name, size, stats=False):
        """A norm, with running statistics and their counter if `stats`."""
        self.layer(name, size)
        if stats:
            self.put(f"{name}.running_mean", (size,))
            self.put(f"{name}.running_var", (size,))
            self[f"{name}.num_batches_tracked"] = np.asarray(7)
        return self


def same_state(a, b):
    """Names, order, dtypes and bits."""
    assert list(a) == list(b)
    for name in a:
        x, y = np.asarray(a[name]), np.asarray(b[name])
        assert x.dtype == y.dtype and x.shape == y.shape, name
        assert np.array_equal(x, y), name


def normal(*shape, seed=1):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)

"""Soundness, and completeness where the group is known, on many small functions."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wsljax import symmetry

from . import brute_force
from .snippets import SNIPPETS


def elements(spec, count=3):
    """Random group elements, made without the library."""
    for seed in range(count):
        rng = np.random.default_rng(seed)
        g = {}
        for u in spec.units:
            lead = [spec.size_of(o) for o in u.over]
            rows = [rng.permutation(u.size) for _ in range(int(np.prod(lead, dtype=int)))]
            g[u.name] = np.stack(rows).reshape(*lead, u.size)
        yield g


@pytest.mark.parametrize("name", SNIPPETS)
def test_sound_and_as_large_as_known(name):
    fn, params, inputs, log_order = SNIPPETS[name]
    inputs = jax.tree.map(jnp.asarray, inputs)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="no rule for", category=UserWarning)
        spec = symmetry.infer(fn, params, *inputs, kinds=("permutation",))
    spec.validate()
    leaves, treedef = jax.tree.flatten(params)
    before = np.asarray(fn(jax.tree.map(jnp.asarray, params), *inputs), float)
    spread = np.ptp(before) or 1.0
    for g in elements(spec):
        moved = [
            jnp.asarray(brute_force.act(spec, g, leaf, np.asarray(v)))
            for leaf, v in zip(spec.leaves, leaves, strict=True)
        ]
        after = np.asarray(fn(treedef.unflatten(moved), *inputs), float)
        np.testing.assert_allclose(after / spread, before / spread, atol=1e-9, err_msg=str(spec))
    if log_order is not None:
        assert spec.log_order() == pytest.approx(log_order, abs=1e-9), str(spec)

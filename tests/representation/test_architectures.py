"""Every architecture of the registry: its inferred spec through metanetworks, in float64.

One compiled program a case: embedding, a universal layer, normalisation and activation, then an
invariant answer and an equivariant edit. A few cases that between them have every kind of unit run by
default, the rest with ``-m slow``.
"""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.architectures import quick_random, registry
from wsljax import symmetry
from wsljax.representation import InvariantPool, Readout, build_trunk

KEPT = 1e-10  # relative to the spread of the output over networks
CASES = registry.load()
BY_DEFAULT = {
    "linen/resnet_groupnorm",  # groups, and channels within groups
    "linen/scan_transformer",  # units nested over a fixed axis, heads in them
    "raw/qkv_flat_split",  # alternatives
    "raw/cubic_form",  # one set of units three times in one leaf
    "raw/product_units",  # units stored as a product
}


def numbers(params: Any) -> bool:
    return all(jnp.issubdtype(jnp.result_type(x), jnp.number) for x in jax.tree.leaves(params))


def double(params: Any) -> Any:
    return jax.tree.map(lambda x: jnp.asarray(np.asarray(x), jnp.float64), params)


def distance(a: Any, b: Any) -> float:
    pairs = zip(*map(jax.tree.leaves, (a, b)), strict=True)
    return max(float(jnp.max(jnp.abs(x - y), initial=0)) for x, y in pairs)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in BY_DEFAULT else pytest.mark.slow) for n in CASES]
)
def test_answers_are_invariant_and_edits_equivariant(name):
    case = CASES[name]
    fn, params, inputs = case.build(quick_random.key(0))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="no rule for", category=UserWarning)
        spec = symmetry.infer(fn, params, *inputs, kinds=("permutation",), **case.infer_kwargs)
    trunk = build_trunk("universal", spec, 2, 1, key=quick_random.key(1), dtype=jnp.float64)
    readout = Readout(spec, 2, key=quick_random.key(2), dtype=jnp.float64)
    pool = InvariantPool(spec)

    @jax.jit
    def run(params):
        x = trunk(spec.blocks(params))
        return pool(x), spec.unblocks(readout(x), like=params)

    if not numbers(params):  # random keys among the weights
        with pytest.raises(ValueError, match="cannot be read as a weight"):
            run(params)
        return
    params = double(params)
    leaves, treedef = jax.tree.flatten(params)
    keys = jax.random.split(quick_random.key(3), len(leaves))
    noise = [jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)]
    other = jax.tree.unflatten(treedef, noise)

    g = spec.sample(quick_random.key(4))
    answer, edit = run(params)
    moved_answer, moved_edit = run(spec.act(g, params))
    far_answer, far_edit = run(other)
    assert distance(answer, far_answer) > 1e-3 and distance(edit, far_edit) > 1e-3
    assert distance(moved_answer, answer) <= KEPT * distance(answer, far_answer)
    assert distance(moved_edit, spec.act(g, edit)) <= KEPT * distance(edit, far_edit)


def test_the_cases_run_by_default_exist():
    assert set(CASES) >= BY_DEFAULT

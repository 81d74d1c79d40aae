"""The library changes no setting of jax, and runs under the strictest ones a user may have."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from wsljax import representation, symmetry

ROOT = Path(__file__).parents[1]

UNTOUCHED = """
import json, pkgutil, importlib, warnings, logging, os, random
import jax, numpy as np
def settings():
    return {
        "jax": {name: repr(value) for name, value in jax.config.values.items()},
        "numpy": repr(np.geterr()) + repr(np.get_printoptions()),
        "random": repr(random.getstate())[:200] + repr(np.random.get_state())[:200],
        "environment": dict(os.environ),
        "warnings": repr(warnings.filters),
        "logging": repr(logging.getLogger().handlers),
    }
import equinox, optax
from flax import linen
before = settings()
import wsljax
for module in pkgutil.walk_packages(wsljax.__path__, "wsljax."):
    importlib.import_module(module.name)
after_import = settings()
def mlp(p, x):
    return jax.numpy.tanh(x @ p["w0"] + p["b0"]) @ p["w1"]
p = {"w0": np.ones((2, 3)), "b0": np.ones(3), "w1": np.ones((3, 1))}
spec = wsljax.symmetry.infer(mlp, p, np.ones((4, 2)))
spec.act(spec.sample(jax.random.key(0)), p)
wsljax.symmetry.check(mlp, p, spec, np.ones((4, 2)), key=jax.random.key(0))
after_use = settings()
changed = {
    name: [before[name], after_import[name], after_use[name]]
    for name in before
    if not before[name] == after_import[name] == after_use[name]
}
print(json.dumps(changed))
"""


def test_no_setting_changes_by_import_or_by_use():
    done = subprocess.run(
        [sys.executable, "-c", UNTOUCHED], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {}


def mlp(params, x):
    hidden = jnp.tanh(jnp.dot(params["w0"], x) + params["b0"])
    return jnp.dot(params["w1"], hidden)


def make_params(key, dtype):
    k0, k1, k2 = jax.random.split(key, 3)
    return {
        "w0": jax.random.normal(k0, (5, 2), dtype),
        "b0": jax.random.normal(k1, (5,), dtype),
        "w1": jax.random.normal(k2, (3, 5), dtype),
    }


@contextlib.contextmanager
def strict():
    """No silent broadcasting, no silent promotion, no key used twice."""
    with (
        jax.numpy_rank_promotion("raise"),
        jax.numpy_dtype_promotion("strict"),
        jax.debug_key_reuse(True),
    ):
        yield


def test_no_tracer_is_left_behind():
    with jax.checking_leaks():
        params, x = make_params(jax.random.key(0), "float32"), jnp.ones(2)
        spec = symmetry.infer(mlp, params, x, kinds=("permutation",))
        g = jax.jit(spec.sample)(jax.random.key(1))
        jax.vmap(jax.jit(lambda p: spec.act(g, p)))(jax.tree.map(lambda p: p[None], params))


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_symmetry_under_strict_settings_keeps_the_dtype(dtype):
    with strict():
        k_params, k_x, k_g, k_h, k_check = jax.random.split(jax.random.key(0), 5)
        params, x = make_params(k_params, dtype), jax.random.normal(k_x, (2,), dtype)
        spec = symmetry.infer(mlp, params, x, kinds=("permutation",))
        assert spec.size_of(spec.units[0].name) == 5
        g, h = spec.sample(k_g), spec.sample(k_h)
        gh = spec.compose(g, h)
        moved = jax.jit(lambda p: spec.act(gh, p))(params)
        back = spec.act(spec.inverse(gh), moved)
        again = spec.unblocks(spec.blocks(moved), like=moved)
        symmetry.check(mlp, params, spec, x, key=k_check)
    for tree, expected in ((back, params), (again, moved)):
        for name in params:
            assert tree[name].dtype == params[name].dtype
            assert jnp.array_equal(tree[name], expected[name]), name
    assert not jnp.array_equal(moved["b0"], params["b0"])


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
@pytest.mark.parametrize("network", [representation.Metanetwork, representation.Editor])
def test_metanetworks_under_strict_settings_keep_the_dtype(network, dtype):
    options = {"out": 3} if network is representation.Metanetwork else {}
    with strict():
        k_params, k_net = jax.random.split(jax.random.key(0))
        params = make_params(k_params, dtype)
        spec = symmetry.parse(params, {"w0": "h _", "b0": "h", "w1": "_ h"})
        net = network(spec, channels=4, layers=2, key=k_net, **options)
        out = eqx.filter_jit(net)(params)
    assert {leaf.dtype for leaf in jax.tree.leaves(out)} == {jnp.dtype(dtype)}
    if network is representation.Editor:
        assert jax.tree.map(jnp.shape, out) == jax.tree.map(jnp.shape, params)
    else:
        assert out.shape == (3,)

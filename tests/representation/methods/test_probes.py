"""Activations of any traced function, and the features made of them.

On networks of every kind: what exchanging units of the weights does to the values inside the network is
what the annotation of these values says, exactly; and they do change under it.
"""

import functools
import warnings
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.architectures import quick_random, registry
from tests.architectures.registry import quickly
from wsljax import symmetry
from wsljax.representation import Editor, Metanetwork
from wsljax.representation.parts.probes import Probes
from wsljax.symmetry.activations import trace_activations

KEPT = 1e-10
CASES = registry.load()
BY_DEFAULT = {
    "equinox/mlp",
    "equinox/cnn",
    "linen/resnet_groupnorm",
    "equinox/lstm",
    "raw/qkv_flat_split",
    "linen/scan_transformer",
}


def floats(tree: Any, seed: int | None = None) -> Any:
    """In float64; drawn anew if there is a seed."""
    random = np.random.default_rng(seed)

    def one(x):
        if not jnp.issubdtype(jnp.result_type(x), jnp.floating):
            return x
        return jnp.asarray(x if seed is None else random.normal(size=np.shape(x)), jnp.float64)

    return jax.tree.map(one, tree)


def distance(a: Any, b: Any) -> float:
    pairs = zip(*map(jax.tree.leaves, (a, b)), strict=True)
    return max((float(jnp.max(jnp.abs(x - y), initial=0)) for x, y in pairs), default=0.0)


@functools.lru_cache(maxsize=4)
def network(name: str):
    fn, params, inputs = CASES[name].build(quick_random.key(0))
    params, inputs = floats(params), floats(inputs, seed=1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="no rule for", category=UserWarning)
        options = CASES[name].infer_kwargs
        spec = symmetry.infer(fn, params, *inputs, kinds=("permutation",), **options)
    return fn, params, inputs, spec


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=() if n in BY_DEFAULT else pytest.mark.slow)
        for n, case in CASES.items()
        if not case.free
    ],
)
def test_activations_move_as_units_do(name):
    fn, params, inputs, spec = network(name)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="no rule for", category=UserWarning)
        found = trace_activations(fn, params, spec, *inputs)
    g = spec.sample(quick_random.key(2))
    inexact = [jnp.issubdtype(jnp.result_type(x), jnp.floating) for x in jax.tree.leaves(params)]

    @quickly
    def run(params):
        plain = jax.tree.leaves(fn(params, *inputs))
        moved = found(spec.act(g, params), *inputs)
        results, values = found(params, *inputs)
        return plain, results, values, moved[1], found.spec.act(g, values) if values else []

    plain, results, values, moved, expected = run(params)
    assert distance(plain, results) <= 1e-12, "running the trace is running the function"
    assert [x.shape for x in values] == [leaf.shape for leaf in found.spec.leaves]
    size = max((float(jnp.max(jnp.abs(x))) for x in values), default=1.0)
    assert distance(moved, expected) <= KEPT * max(size, 1e-3)
    if name in BY_DEFAULT:
        assert all(inexact) and values
        assert distance(moved, values) > 1e-2, "they do move"
        seen = {a for block in found.spec.layout for a in block.axes}
        assert {u.name for u in spec.units} <= seen, "every set of units has an activation"


def deep(params, x):
    for w in params["hidden"]:
        x = jnp.tanh(x @ w)
    return jax.nn.softmax(x @ params["out"])


def deep_params(*widths: int) -> dict[str, Any]:
    random = np.random.default_rng(0)
    pairs = list(zip(widths[:-1], widths[1:], strict=True))
    drawn = [jnp.asarray(random.normal(size=pair)) for pair in pairs]
    return {"hidden": drawn[:-1], "out": drawn[-1]}


@functools.lru_cache(maxsize=8)
def deep_spec(*widths: int) -> symmetry.Spec:
    return symmetry.infer(deep, deep_params(*widths), jnp.ones(2), kinds=("permutation",))


def probes_of(n: int = 3, **options: Any) -> Probes:
    like, spec = deep_params(2, 4, 5, 3), deep_spec(2, 4, 5, 3)
    key = quick_random.key(0)
    return Probes(deep, like, spec, jnp.ones(2), n=n, key=key, dtype=jnp.float64, **options)


def test_features_are_the_activations_at_the_probes():
    probes = probes_of()
    params = deep_params(2, 4, 5, 3)
    tree = probes(params)
    inside = jnp.tanh(probes.inputs[0] @ params["hidden"][0])
    np.testing.assert_allclose(tree["activations"][0].reshape(3, 4), inside, atol=1e-14)
    results = jax.vmap(lambda x: deep(params, x))(probes.inputs[0])
    np.testing.assert_allclose(tree["outputs"][0], results.reshape(-1), atol=1e-14)
    assert "gradients" not in tree
    assert {leaf.path: leaf.shape for leaf in probes.spec.leaves} == {
        "activations/0": (12,),
        "activations/1": (15,),
        "outputs/0": (9,),
        "weights/hidden/0": (2, 4),
        "weights/hidden/1": (4, 5),
        "weights/out": (5, 3),
    }


def test_gradients_take_the_place_of_activations():
    """Products without a product: nothing inside can be read, gradients have the weights' symmetry."""
    probes = probes_of(activations=False)
    spec, params = probes.weights_spec, deep_params(2, 4, 5, 3)
    g = spec.sample(quick_random.key(1))
    moved, plain = probes(spec.act(g, params)), probes(params)
    expected = spec.act(g, plain["gradients"])
    assert distance(moved["gradients"], expected) <= KEPT * distance(
        moved["gradients"], plain["gradients"]
    )
    assert distance(moved, probes.spec.act(g, plain)) < 1e-12
    assert distance(moved["outputs"], plain["outputs"]) < 1e-12


@pytest.mark.parametrize(
    "method",
    ["neural_graph", pytest.param("neural_graph_transformer", marks=pytest.mark.slow)],
)
def test_networks_with_probes_are_equivariant_and_learn_them(method):
    probes = probes_of(2, gradients=True)
    spec, params = probes.weights_spec, deep_params(2, 4, 5, 3)
    other = floats(params, seed=5)
    g = spec.sample(quick_random.key(1))
    wide, wide_params = deep_spec(2, 6, 4, 3), deep_params(2, 6, 4, 3)
    h = wide.sample(quick_random.key(2))
    # one unit of one array alone
    alone = {**params, "hidden": [params["hidden"][0][:, ::-1], params["hidden"][1]]}
    options = {"method": method, "probes": probes, "dtype": jnp.float64}

    def build():
        net = Metanetwork(spec, 4, 1, 2, key=quick_random.key(3), **options)
        edit = Editor(spec, 4, 1, key=quick_random.key(4), **options)
        return net, edit

    made: list[Any] = []

    @quickly
    def arrays():
        found, rest = eqx.partition(build(), eqx.is_inexact_array)
        made.append(rest)
        return found

    drawn = arrays()

    @quickly
    def run(drawn, trees, wide_trees):
        net, edit = eqx.combine(drawn, made[0])
        both = lambda p, s: (net(p, s), edit(p, s))  # noqa: E731
        found = jax.lax.map(lambda p: both(p, spec), trees)
        wider = jax.lax.map(lambda p: both(p, wide), wide_trees)
        grads = jax.grad(lambda d: jnp.sum(eqx.combine(d, made[0])[0](params)))(drawn)
        return found, wider, grads[0].trunk.probes

    stack = lambda *trees: jax.tree.map(lambda *x: jnp.stack(x), *trees)  # noqa: E731
    trees = stack(params, spec.act(g, params), other, alone)
    wide_trees = stack(wide_params, wide.act(h, wide_params), floats(wide_params, seed=6))
    (answers, edits), (wide_answers, wide_edits), grads = run(drawn, trees, wide_trees)
    at = lambda tree, n: jax.tree.map(lambda x: x[n], tree)  # noqa: E731
    for s, e, found, changed in ((spec, g, answers, edits), (wide, h, wide_answers, wide_edits)):
        spread, edit_spread = distance(found[0], found[2]), distance(at(changed, 0), at(changed, 2))
        assert min(spread, edit_spread) > 1e-3
        assert distance(found[0], found[1]) <= KEPT * spread
        assert distance(at(changed, 1), s.act(e, at(changed, 0))) <= KEPT * edit_spread
    assert distance(answers[0], answers[3]) > 1e-6, "another function, another answer"
    for x in (*grads.inputs, *grads.cotangents):
        assert np.isfinite(x).all() and np.abs(x).max() > 0


def test_what_is_no_probe_is_refused():
    spec, like = deep_spec(2, 4, 5, 3), deep_params(2, 4, 5, 3)
    key = quick_random.key(0)
    with pytest.raises(ValueError, match="give its values"):
        Probes(deep, like, spec, jax.ShapeDtypeStruct((2,), jnp.int32), n=2, key=key)
    with pytest.raises(ValueError, match="`n` must be positive"):
        Probes(deep, like, spec, jnp.ones(2), n=0, key=key)
    with pytest.raises(ValueError, match="nothing to give"):
        off: dict[str, Any] = {"activations": False, "outputs": False, "gradients": False}
        Probes(deep, like, spec, jnp.ones(2), n=2, key=key, **off)
    by_hand = symmetry.parse(like, {"hidden/0": "_ a", "hidden/1": "a b", "out": "b _"})
    probes = Probes(deep, like, by_hand, jnp.ones(2), n=2, key=key)
    assert probes.spec.axes["activations/1"] == "(_2 b)", "other names are understood"
    wrong = symmetry.parse(like, {"hidden/0": "_ _", "hidden/1": "_ b", "out": "b _"})
    with pytest.raises(ValueError, match="'hidden/0'"):
        Probes(deep, like, wrong, jnp.ones(2), n=2, key=key)
    options = {"key": key, "method": "neural_graph", "probes": probes}
    with pytest.raises(ValueError, match="another spec"):
        Metanetwork(deep_spec(2, 6, 4, 3), 4, 1, 1, **options)
    with pytest.raises(ValueError, match="c_in"):
        Metanetwork(by_hand, 4, 1, 1, c_in=2, **options)

"""Weight statistics against numpy, entry by entry; quantiles on hard rows; padding; invariance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.representation.specs import SPECS, params_of, spec_of
from wsljax.representation.baselines.order_statistics import quantiles
from wsljax.representation.baselines.statistics import DEFINITIONS, feature_names, statistics
from wsljax.zoo.population import Population
from wsljax.zoo.preprocessing.tokens import channel_tokens

SMALL_CNN = {
    "conv_0": ((3, 3, 1, 16), (16,)),
    "conv_1": ((3, 3, 16, 16), (16,)),
    "conv_2": ((3, 3, 16, 16), (16,)),
    "dense_0": ((16, 10), (10,)),
}
NAMES = [f"{layer}/{part}" for layer in SMALL_CNN for part in ("bias", "kernel")]


def networks(count, shapes=SMALL_CNN, dtype=np.float32, seed=0):
    draw = np.random.default_rng(seed)
    return {
        layer: {
            "kernel": draw.standard_t(4, size=(count, *kernel)).astype(dtype) * 0.1,
            "bias": draw.normal(0.1, 0.3, size=(count, *bias)).astype(dtype),
        }
        for layer, (kernel, bias) in shapes.items()
    }


def leaf(stack, path):
    layer, part = path.split("/")
    return np.asarray(stack[layer][part], np.float64).reshape(len(stack[layer][part]), -1)


def by_numpy(x, definition):
    """The seven numbers of each row, written out from the table of definitions."""
    q = {p: np.quantile(x, p, axis=1) for p in (0, 0.01, 0.25, 0.5, 0.75, 0.99, 1)}
    ranges = [q[0], q[0.25], q[0.5], q[0.75], q[1]]
    percentiles = [q[0.01], q[0.25], q[0.5], q[0.75], q[0.99]]
    columns = {
        "google": [*ranges, x.std(axis=1), x.mean(axis=1)],
        "global": [*ranges, x.std(axis=1), x.mean(axis=1)],
        "modelzoos": [x.mean(axis=1), x.var(axis=1), *percentiles],
        "statnet": [x.mean(axis=1), x.var(axis=1, ddof=1), *ranges],
        "sane": [x.mean(axis=1), x.var(axis=1), *percentiles],
    }
    return np.stack(columns[definition], axis=1)


def expected(stack, definition):
    bias_first = ["bias", "kernel"] if definition == "google" else ["kernel", "bias"]
    if definition == "global":
        return by_numpy(np.concatenate([leaf(stack, n) for n in NAMES], axis=1), definition)
    if definition == "sane":
        widest = 3 * 3 * 16 + 1
        rows = []
        for layer in SMALL_CNN:
            kernel, bias = np.float64(stack[layer]["kernel"]), np.float64(stack[layer]["bias"])
            out = kernel.shape[-1]
            token = np.zeros((len(kernel), out, widest))
            flat = np.moveaxis(kernel, -1, 1).reshape(len(kernel), out, -1)
            token[:, :, : flat.shape[2]] = flat
            token[:, :, flat.shape[2]] = bias
            rows.append(by_numpy(token.reshape(len(kernel), -1), definition))
        return np.concatenate(rows, axis=1)
    order = [f"{layer}/{part}" for layer in SMALL_CNN for part in bias_first]
    return np.concatenate([by_numpy(leaf(stack, n), definition) for n in order], axis=1)


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_definitions_equal_numpy(definition):
    stack = networks(11)
    found = statistics(stack, definition, chunk=4)
    assert found.dtype == jnp.float32
    assert found.shape == (11, {"global": 7, "sane": 28}.get(definition, 56))
    assert np.abs(found - expected(stack, definition)).max() < 1e-6
    assert len(feature_names(stack, definition)) == found.shape[1]


def test_float64_is_kept():
    stack = networks(3, dtype=np.float64)
    assert np.abs(statistics(stack, "statnet") - expected(stack, "statnet")).max() < 1e-13


def test_names_and_order():
    stack = networks(2)
    names = feature_names(stack)
    assert names[:8] == (
        *(f"conv_0/bias {w}" for w in ("q0", "q25", "q50", "q75", "q100", "std", "mean")),
        "conv_0/kernel q0",
    )
    some = ["dense_0/kernel", "conv_1/bias"]
    found = statistics(stack, order=some)
    whole = expected(stack, "google")
    places = [k for path in some for k, name in enumerate(names) if name.startswith(path + " ")]
    np.testing.assert_allclose(found, whole[:, places], atol=1e-6)
    assert feature_names(stack, order=some) == tuple(names[k] for k in places)


ROWS = {
    "normal": lambda d, n: d.normal(size=n),
    "lognormal": lambda d, n: np.exp(4 * d.normal(size=n)),
    "two far lumps": lambda d, n: d.normal(size=n) * 1e-4 + 1e3 * d.integers(0, 2, n),
    "sparse": lambda d, n: d.normal(size=n) * (d.random(n) < 0.1),
    "few values": lambda d, n: d.integers(-2, 3, n).astype(float),
    "constant": lambda d, n: np.full(n, -0.7),
    "zeros": lambda d, n: np.zeros(n),
    "one outlier": lambda d, n: np.append(d.normal(size=n - 1), 1e8),
    "tiny": lambda d, n: d.normal(size=n) * 1e-30,
    "huge": lambda d, n: d.normal(size=n) * 1e30,
    "sorted": lambda d, n: np.linspace(-1, 1, n),
    "infinite": lambda d, n: np.append(d.normal(size=n - 1), np.inf),
    "bfloat16": lambda d, n: np.asarray(jnp.asarray(d.normal(size=n), jnp.bfloat16), np.float64),
}


@pytest.mark.parametrize("n", [1, 2, 10, 1500])
def test_quantiles_are_exact_on_hard_rows(n):
    draw = np.random.default_rng(n)
    rows = np.stack([make(draw, n) for make in ROWS.values()]).astype(np.float32)
    p = (0.0, 0.01, 0.25, 1 / 3, 0.5, 0.75, 0.99, 1.0)
    found = np.asarray(quantiles(jnp.asarray(rows), p))
    with np.errstate(all="ignore"):
        wanted = np.quantile(rows.astype(np.float64), p, axis=1).T
    at = (np.asarray(p, np.float32) * np.float32(n - 1))[None]
    nearby = np.sort(rows, axis=1)
    for k, name in enumerate(ROWS):
        inner = slice(0, -1) if name == "infinite" else slice(None)  # numpy's end is inf - inf
        if name == "infinite" and n < 200:
            continue
        with np.errstate(invalid="ignore"):
            gap = nearby[k][np.ceil(at[0]).astype(int)] - nearby[k][np.floor(at[0]).astype(int)]
            gap = np.abs(gap)
            allowed = 1e-6 * np.abs(wanted[k]) + 1e-6 * np.where(np.isfinite(gap), gap, 0)
            same = found[k] == wanted[k]
            assert (same | (np.abs(found[k] - wanted[k]) <= allowed))[inner].all(), name


def test_quantiles_of_a_row_with_nan_are_nan_and_do_not_hang():
    x = jnp.array([[1.0, jnp.nan, 2.0], [1.0, 2.0, 3.0]])
    found = quantiles(x, (0.0, 0.5, 1.0))
    assert np.isnan(found[0]).all() and found[1].tolist() == [1.0, 2.0, 3.0]


def test_mask_is_as_if_the_entries_were_not_there():
    draw = np.random.default_rng(3)
    stack = {"w": draw.normal(size=(6, 5, 7)).astype(np.float32)}
    mask = {"w": np.zeros((6, 5, 7), bool)}
    sizes = [(5, 7), (2, 3), (1, 1), (4, 4), (3, 7), (5, 2)]
    for k, (a, b) in enumerate(sizes):
        mask["w"][k, :a, :b] = True
    for definition in ("modelzoos", "statnet"):
        found = np.asarray(statistics(stack, definition, mask=mask))
        for k, (a, b) in enumerate(sizes):
            alone = (
                by_numpy(np.float64(stack["w"][k, :a, :b]).reshape(1, -1), definition)
                if a > 1
                else None
            )
            if a > 1:
                np.testing.assert_allclose(found[k], alone[0], rtol=2e-6, atol=2e-7)
            else:  # one entry: no variance with ddof 1
                same = np.where(np.isnan(found[k]) | (found[k] == 0), 0, stack["w"][k, 0, 0])
                np.testing.assert_array_equal(np.nan_to_num(found[k]), same)


def test_several_architectures_are_padded_to_the_longest():
    small = {k: SMALL_CNN[k] for k in ("conv_0", "dense_0")}
    both = [Population(networks(3), {}), Population(networks(2, small), {})]
    found = statistics(both)
    assert found.shape == (5, 56)
    assert np.abs(found[:3] - expected(both[0].params, "google")).max() < 1e-6
    assert np.array_equal(found[3:, :28], statistics(both[1])) and not found[3:, 28:].any()
    assert feature_names(both) == feature_names(both[0])


@pytest.mark.parametrize(
    "name,definition",
    [("heads", "google"), ("lstm", "sane"), ("scanned heads", "statnet"), ("width one", "global")],
)
def test_any_tree_and_no_definition_sees_the_order_of_units(name, definition, key):
    spec = spec_of(SPECS[name])
    params = params_of(spec, key)
    moved = spec.act(spec.sample(jax.random.key(1)), params)
    stack = jax.tree.map(lambda a, b: jnp.stack([a, b]), params, moved)
    found = np.asarray(statistics(stack, definition))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-10, atol=1e-12)


def test_gradient_is_that_of_sorting():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 41)))
    weights = jnp.asarray(np.random.default_rng(1).normal(size=(3, 7)))

    def ours(x):
        return jnp.sum(weights * statistics({"w": x}, "modelzoos"))

    def plain(x):
        q = jnp.quantile(x, jnp.array([0.01, 0.25, 0.5, 0.75, 0.99]), axis=1)
        return jnp.sum(weights.T * jnp.stack([jnp.mean(x, 1), jnp.var(x, 1), *q]))

    np.testing.assert_allclose(jax.grad(ours)(x), jax.grad(plain)(x), rtol=1e-9, atol=1e-12)
    assert np.isfinite(jax.grad(lambda x: statistics({"w": x}).sum())(jnp.zeros((2, 5)))).all()


def test_traces_and_vmaps():
    stack = jax.tree.map(jnp.asarray, networks(6))
    inside = jax.jit(lambda s: statistics(s, "statnet"))(stack)
    halves = jax.tree.map(lambda x: x.reshape(2, 3, *x.shape[1:]), stack)
    mapped = jax.vmap(lambda s: statistics(s, "statnet"))(halves)
    np.testing.assert_allclose(mapped.reshape(6, -1), inside, rtol=1e-6, atol=1e-9)


def test_sane_counts_the_zeros_of_its_tokens():
    stack = networks(2)
    tokens = channel_tokens(jax.tree.map(lambda x: x[0], stack), width=40)
    table = np.asarray(jax.vmap(tokens)(stack), np.float64)
    found = statistics(stack, "sane", token_width=40)
    for layer in range(4):
        rows = table[:, tokens.positions[:, 1] == layer].reshape(2, -1)
        assert np.abs(found[:, 7 * layer : 7 * layer + 7] - by_numpy(rows, "sane")).max() < 1e-6


def test_errors_name_what_is_wrong():
    stack = networks(2)
    with pytest.raises(ValueError, match="unknown definition 'gogle'"):
        statistics(stack, "gogle")
    with pytest.raises(ValueError, match=r"`order` names \['conv_9'\]"):
        statistics(stack, order=["conv_9"])
    with pytest.raises(ValueError, match="one leading model axis"):
        statistics({"w": jnp.ones((3, 2)), "b": jnp.ones(2)})
    with pytest.raises(ValueError, match="length 0"):
        statistics({"w": jnp.ones((0, 2))})
    with pytest.raises(ValueError, match="holds no array"):
        statistics({})
    with pytest.raises(ValueError, match="between 0 and 1"):
        quantiles(jnp.ones((1, 2)), (50.0,))
    with pytest.raises(ValueError, match="`mask` has no 'b'"):
        statistics({"b": jnp.ones((2, 3))}, mask={"a": jnp.ones((2, 3), bool)})

"""Tokens of any spec go there and back bit by bit, and move as the group says."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.representation.specs import SPECS, params_of, spec_of
from wsljax import symmetry
from wsljax.zoo.population import Population
from wsljax.zoo.preprocessing.tokens import (
    channel_tokens,
    flat_tokens,
    masked_mean,
    masked_mse,
    neuron_tokens,
)

MAKERS = {
    "channel": lambda params, spec, width: channel_tokens(params, spec, width=width),
    "channel without spec": lambda params, spec, width: channel_tokens(params, width=width),
    "neuron": lambda params, spec, width: neuron_tokens(params, spec, width=width),
    "flat": lambda params, spec, width: flat_tokens(params, width=width or 7),
}


def bits(x):
    return np.asarray(x).view(f"u{np.asarray(x).dtype.itemsize}")


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("name", SPECS)
def test_there_and_back_bit_by_bit(name, kind, key):
    spec = spec_of(SPECS[name])
    params = params_of(spec, key, jnp.float32)
    first = next(iter(params))
    params[first] = params[first].at[(0,) * params[first].ndim].set(-0.0)
    makers = [MAKERS[kind](params, spec, width) for width in (None, 5)]

    @jax.jit
    def there_and_back(params):
        rows = [tokeniser(params) for tokeniser in makers]
        noisy = [jnp.where(t.mask, x, 99.0) for t, x in zip(makers, rows)]
        return rows, [(t.params(x), t.params(x, overlap="mean")) for t, x in zip(makers, noisy)]

    for tokeniser, tokens, (back, mean) in zip(makers, *there_and_back(params)):
        assert tokens.shape == tokeniser.mask.shape == (tokeniser.count, tokeniser.width)
        assert tokeniser.positions.shape == (tokeniser.count, 3)
        assert tokeniser.positions[:, 0].tolist() == list(range(tokeniser.count))
        assert not np.asarray(tokens)[~tokeniser.mask].any()
        assert jax.tree.structure(back) == jax.tree.structure(params)
        for a, b, c in zip(*map(jax.tree.leaves, (back, params, mean))):
            assert a.dtype == b.dtype
            assert np.array_equal(bits(a), bits(b))
            np.testing.assert_allclose(c, b, rtol=1e-6)
    tokeniser = makers[-1]
    if kind != "neuron":  # nothing stands twice
        assert tokeniser.mask.sum() == sum(x.size for x in jax.tree.leaves(params))


def test_sane_tokens_of_a_torch_cnn_are_those_of_the_paper():
    draw = np.random.default_rng(0)
    torch = {"0": {"weight": draw.normal(size=(4, 3, 2, 2)), "bias": draw.normal(size=4)},
             "1": {"weight": draw.normal(size=(5, 4)), "bias": draw.normal(size=5)}}  # fmt: skip
    rows = [np.concatenate([t["weight"].reshape(len(t["bias"]), -1), t["bias"][:, None]], axis=1)
            for t in torch.values()]  # fmt: skip
    width, wanted, places = 6, [], []
    for layer, matrix in enumerate(rows):
        for channel, row in enumerate(matrix):
            padded = np.pad(row, (0, -len(row) % width)).reshape(-1, width)
            wanted.append(padded)
            places += [(layer, channel)] * len(padded)
    tokeniser = channel_tokens(torch, width=width, channel_axis=0)
    assert np.array_equal(tokeniser(torch), np.concatenate(wanted))
    assert np.array_equal(tokeniser.positions[:, 1:], places)
    assert channel_tokens(torch).width == 13
    jax_layout = {"0": {"weight": torch["0"]["weight"].transpose(2, 3, 1, 0), "bias": torch["0"]["bias"]},
                  "1": {"weight": torch["1"]["weight"].T, "bias": torch["1"]["bias"]}}  # fmt: skip
    same = channel_tokens(jax_layout, width=width)
    assert np.array_equal(same(jax_layout), tokeniser(torch))


def test_a_layer_without_bias_and_a_norm():
    params = {
        "conv_1": {"kernel": jnp.ones((3, 3, 8, 4))},
        "conv_2": {"kernel": jnp.ones((1, 4, 2)), "bias": jnp.ones(2)},
        "norm": {"scale": jnp.ones(4), "bias": jnp.zeros(4)},
        "t": jnp.ones(()),
    }
    tokeniser = channel_tokens(params)
    assert tokeniser.width == 72  # the width is of the widest channel, bias or none
    assert [(tokeniser.positions[:, 1] == k).sum() for k in range(4)] == [4, 2, 4, 1]
    assert tokeniser.mask.sum(axis=1).tolist() == [72] * 4 + [5] * 2 + [2] * 4 + [1]


def test_units_permute_their_tokens_whole_and_enter_their_neighbours(key):
    spec = spec_of(SPECS["mlp"])
    params = params_of(spec, key)
    pi = jax.random.permutation(key, 5)
    g = {"b": pi}

    channels = channel_tokens(params, spec)
    before, after = (np.asarray(channels(p)) for p in (params, spec.act(g, params)))
    layer = channels.positions[:, 1]
    assert np.array_equal(after[layer == 1], before[layer == 1][np.asarray(pi)])  # writes b
    assert np.array_equal(after[layer == 0], before[layer == 0])  # does not know b
    assert np.array_equal(after[layer == 2][:, :5], before[layer == 2][:, :5][:, np.asarray(pi)])

    neurons = neuron_tokens(params, spec)
    before, after = (np.asarray(neurons(p)) for p in (params, spec.act(g, params)))
    names = [u.name for u in spec.units]
    own = neurons.positions[:, 1] == names.index("b")
    other = neurons.positions[:, 1] == names.index("a")
    assert np.array_equal(after[own], before[own][np.asarray(pi)])
    assert np.array_equal(np.sort(after[other], axis=1), np.sort(before[other], axis=1))
    rest = neurons.positions[:, 1] == 2
    assert rest.sum() == 1 and np.array_equal(after[rest], before[rest])
    assert neurons.mask[own].sum(axis=1).tolist() == [4 + 1 + 3] * 5  # in, bias, out


@pytest.mark.parametrize("name", SPECS)
def test_neuron_tokens_of_any_spec_are_permuted(name, key):
    spec = spec_of(SPECS[name])
    params = params_of(spec, key)
    tokeniser = neuron_tokens(params, spec)
    assert sum(tokeniser.mask.any(axis=1)) == tokeniser.count
    element = spec.sample(key)

    @jax.jit
    def tokens_after(params):
        moved = {u.name: spec.act({u.name: element[u.name]}, params) for u in spec.units}
        return tokeniser(params), {name: tokeniser(p) for name, p in moved.items()}

    start, moved = tokens_after(params)
    for k, units in enumerate(spec.units):
        own = tokeniser.positions[:, 1] == k
        before, after = (np.sort(np.asarray(x)[own], axis=1) for x in (start, moved[units.name]))
        # each index of the parents has its own permutation: the place in the list of all copies
        pi = np.asarray(element[units.name]).reshape(-1, units.size)
        source = (pi + units.size * np.arange(len(pi))[:, None]).reshape(-1)
        assert np.array_equal(after, before[source])


def test_inferred_networks_populations_and_static_use():
    def apply(params, x):
        h = jax.nn.relu(x @ params["dense_0"]["kernel"] + params["dense_0"]["bias"])
        return h @ params["dense_1"]["kernel"]

    draw = np.random.default_rng(0)
    first = {"kernel": draw.normal(size=(5, 3, 6)), "bias": draw.normal(size=(5, 6))}
    stack = {"dense_0": first, "dense_1": {"kernel": draw.normal(size=(5, 6, 2))}}
    one = jax.tree.map(lambda x: x[0], stack)
    spec = symmetry.infer(apply, one, jnp.zeros((4, 3)), kinds=("permutation",))
    population = Population(stack, {}, spec)
    for tokeniser in (neuron_tokens(population), channel_tokens(population)):
        tokens = jax.jit(jax.vmap(tokeniser))(stack)
        back = jax.jit(jax.vmap(tokeniser.params))(tokens)
        assert all(
            np.array_equal(a, b) for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(stack))
        )
        again = (
            channel_tokens(one, spec) if tokeniser.kind == "channel" else neuron_tokens(one, spec)
        )
        assert again == tokeniser and hash(again) == hash(tokeniser)
        assert not jax.tree.leaves(tokeniser)
        gradient = jax.grad(lambda p, t=tokeniser: jnp.sum(t(p) ** 2))(one)
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))
    assert neuron_tokens(population) != channel_tokens(population)


def test_modules_mixed_dtypes_and_shape_structs():
    net = eqx.nn.MLP(3, 2, 4, 1, key=jax.random.key(0))
    tokeniser = channel_tokens(net, channel_axis=0)
    back = tokeniser.params(tokeniser(net))
    assert np.array_equal(back(jnp.ones(3)), net(jnp.ones(3)))
    mixed = {
        "a": jnp.arange(6, dtype=jnp.bfloat16).reshape(2, 3),
        "b": jnp.full(3, 1e-9, jnp.float32),
    }
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), mixed)
    tokeniser = flat_tokens(shapes, width=4)
    back = tokeniser.params(tokeniser(mixed))
    assert back["a"].dtype == jnp.bfloat16 and np.array_equal(bits(back["a"]), bits(mixed["a"]))
    assert np.array_equal(back["b"], mixed["b"])


def test_masked_losses_count_real_entries_only():
    mask = np.zeros((4, 8), bool)
    mask[:, :2] = True
    prediction = jnp.where(mask, 1.0, jnp.nan)
    assert masked_mse(prediction, jnp.zeros((4, 8)), mask) == 1.0
    gradient = jax.grad(masked_mse)(prediction, jnp.zeros((4, 8)), mask)
    np.testing.assert_allclose(gradient, np.where(mask, 2 / 8, 0))
    assert masked_mean(jnp.ones((3, 4, 8)), mask) == 1.0
    assert masked_mean(jnp.ones((4, 8)), np.zeros((4, 8), bool)) == 0.0


def test_errors_name_what_is_wrong():
    params = {"w": jnp.ones((3, 2)), "n": jnp.ones(2, jnp.int32)}
    with pytest.raises(TypeError, match="'n' holds int32"):
        flat_tokens(params, width=3)
    tokeniser = flat_tokens({"w": jnp.ones((3, 2))}, width=3)
    with pytest.raises(ValueError, match=r"'w', \(5, 3, 2\).*jax.vmap"):
        tokeniser({"w": jnp.ones((5, 3, 2))})
    with pytest.raises(ValueError, match=r"`tokens` has shape \(1, 3\)"):
        tokeniser.params(jnp.ones((1, 3)))
    with pytest.raises(ValueError, match="`overlap` is 'last'"):
        tokeniser.params(jnp.ones((2, 3)), overlap="last")
    with pytest.raises(ValueError, match="`width` is 0"):
        flat_tokens({"w": jnp.ones(2)}, width=0)
    with pytest.raises(ValueError, match="need a `spec`"):
        neuron_tokens({"w": jnp.ones(2)})
    with pytest.raises(ValueError, match="no weights"):
        flat_tokens({}, width=1)

"""The orthogonal basis, and units of which there is only one: same span, better conditioned, no map twice."""

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from wsljax import symmetry
from wsljax.representation import Features, UniversalLinear, count_terms
from wsljax.representation.universal.components import independent

from .specs import SPECS, features_of, flat, spec_of, unflat
from .test_basis import free_mlp

NARROW = {
    "units": {"w": ((3, 1), "a b"), "v": ((1, 4), "b c"), "u": ((1,), "b"), "s": ((), "")},
    "nested": {"w": ((1, 3, 1), "h m[h] o"), "v": ((4, 1, 3), "d h m[h]"), "k": ((2, 1), "a b[a]")},
    "repeated": {"w": ((1, 1, 3), "h h g"), "v": ((3,), "g")},
}


def maps(layer: UniversalLinear, spec: symmetry.Spec) -> np.ndarray:
    """The layer's matrix for every one of its weights set to one: ``(weights, out * in)``."""
    vector, rebuild = jax.flatten_util.ravel_pytree(layer.weights)
    size = len(flat(spec, features_of(spec, 1, jax.random.key(0))))

    def column(weights, e):
        moved = eqx.tree_at(lambda t: t.weights, layer, rebuild(weights))
        out = moved(Features.of(layer.inputs, unflat(spec, e))).blocks()
        return jnp.concatenate([out[b.name].reshape(-1) for b in layer.outputs])

    matrix = jax.vmap(column, (None, 0), 1)
    found = jax.jit(jax.vmap(matrix, (0, None)))(jnp.eye(len(vector)), jnp.eye(size))
    return np.asarray(found).reshape(len(vector), -1)


def layer_of(spec: symmetry.Spec, basis: str, **options) -> UniversalLinear:
    return UniversalLinear(
        spec,
        1,
        1,
        key=jax.random.key(0),
        basis=basis,
        use_bias=False,
        dtype=jnp.float64,
        **options,
    )


def condition(found: np.ndarray) -> float:
    """Of the Gram matrix of maps of norm one."""
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    return float(np.linalg.cond(unit @ unit.T))


def some(names, default):
    return [pytest.param(n, marks=() if n in default else pytest.mark.slow) for n in names]


PLENTY = [
    n for n in SPECS if n not in ("thrice", "four times", "twice nested", "width one", "lstm")
]


@pytest.mark.parametrize("name", some(PLENTY, ("rnn", "flatten")))
def test_same_span_and_better_conditioned(name):
    spec = spec_of(SPECS[name])
    partition, orthogonal = (maps(layer_of(spec, b), spec) for b in ("partition", "orthogonal"))
    rank = np.linalg.matrix_rank(orthogonal)
    assert rank == np.linalg.matrix_rank(np.concatenate([partition, orthogonal]))
    assert rank == len(orthogonal) == count_terms(spec)
    repeated = any(len(set(b)) < len(b) for b in (t.split() for _, t in SPECS[name].values()))
    assert condition(orthogonal) < (20 if repeated else 1 + 1e-9)
    assert condition(orthogonal) < 0.5 * condition(partition)


def test_a_change_of_basis_of_the_weights_is_the_same_layer():
    """Both draws stand for one map: the key decides, not the basis."""
    spec = spec_of(SPECS["rnn"])
    x = features_of(spec, 3, jax.random.key(1))
    ys = [
        UniversalLinear(spec, 3, 2, key=jax.random.key(0), basis=b, dtype=jnp.float64)(x)
        for b in ("partition", "orthogonal")
    ]
    for name in x:
        assert jnp.allclose(ys[0][name], ys[1][name], atol=1e-12)
    with pytest.raises(ValueError, match="`basis` must be one of"):
        UniversalLinear(spec, 3, 2, key=jax.random.key(0), basis="fourier")


@pytest.mark.parametrize(("ends", "terms"), [(1, 57), (3, 62)])
def test_published_dimensions_with_free_ends(ends, terms):
    """Zhou et al., 2024, build 62 maps for a 2-32-32-1 network, of which 57 are independent."""
    spec = free_mlp(2, 4, 4, ends)
    kept = {b: maps(layer_of(spec, b), spec) for b in ("partition", "orthogonal")}
    for found in kept.values():
        alive = found[np.abs(found).max(1) > 0]
        assert len(found) == 62  # parameters have no widths
        assert np.linalg.matrix_rank(alive) == len(alive) == count_terms(spec) == terms
    wide = free_mlp(2, 32, 32, ends)
    layer = layer_of(wide, "partition")
    keeps = independent(layer.basis, layer.ones)
    assert sum(int(k.sum()) for k in keeps.values()) == count_terms(wide) == terms


@pytest.mark.parametrize("name", some(NARROW, ("nested",)))
def test_no_map_twice_at_width_one(name):
    spec = spec_of(NARROW[name])
    layer = layer_of(spec, "partition")
    kept = maps(layer, spec)
    full = maps(layer_of(spec, "partition", drop_dependent=False), spec)
    alive = kept[np.abs(kept).max(1) > 0]
    assert len(alive) < len(full)
    rank = np.linalg.matrix_rank(full)
    assert np.linalg.matrix_rank(alive) == len(alive) == rank == count_terms(spec)
    for role, keeps in independent(layer.basis, layer.ones).items():
        assert not np.asarray(layer.weights[role])[~keeps].any()


def test_weights_left_out_stay_where_they_are():
    """They get no gradient, and the function does not change when the units become more."""
    spec = spec_of({"w": ((4, 1), "a o"), "b": ((1,), "o")})
    layer = UniversalLinear(spec, 3, 3, key=jax.random.key(0), dtype=jnp.float64)
    x = features_of(spec, 3, jax.random.key(1))
    grads = eqx.filter_jit(eqx.filter_grad(lambda m: sum(jnp.sum(y**2) for y in m(x).values())))(
        layer
    )
    for role in layer.basis.roles:
        keeps = independent(layer.basis, layer.ones)[role.name]
        shape = (len(role.members), role.reads, 3, role.writes, 3)
        g = np.moveaxis(np.asarray(grads.weights[role.name]).reshape(shape), 3, 2)
        assert not g[~keeps].any() and (np.abs(g[keeps]).max((1, 2)) > 0).all()
    y = layer(x)
    twice = layer({n: jnp.repeat(v, 2, v.ndim - 2) for n, v in x.items()})
    for name, value in y.items():
        assert jnp.allclose(twice[name], jnp.repeat(value, 2, value.ndim - 2), atol=1e-12)

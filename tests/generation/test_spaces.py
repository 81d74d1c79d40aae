"""Spaces: round trips keep the network, or its function; normalising commutes with the group."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.architectures import registry
from tests.symmetry import generator_nets as nets
from wsljax import generation, symmetry
from wsljax.generation import autoencoders, denoisers
from wsljax.generation.spaces import (
    CanonicalSpace,
    FlatSpace,
    IdentitySpace,
    PrincipalSpace,
    SphereSpace,
    SubsetSpace,
    TokenSpace,
    WeightSpace,
    fit_spaces,
    restrict,
)
from wsljax.zoo import Population


def far(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(jnp.max(jnp.abs(x - y)) / (1e-12 + jnp.max(jnp.abs(y)))) for x, y in pairs)


def floats(tree):
    return jax.tree.map(lambda x: x if jnp.issubdtype(x.dtype, jnp.floating) else None, tree)


def stack_of(params, count=6, spread=0.3, seed=0):
    """Networks around one; what is positive stays positive, what is no float is shared."""
    random = np.random.default_rng(seed)

    def draw(x):
        if not jnp.issubdtype(x.dtype, jnp.floating):
            return jnp.broadcast_to(x, (count, *x.shape))
        noise = random.standard_normal((count, *x.shape)).astype(x.dtype)
        return jnp.where(x > 0, x * jnp.exp(spread * noise), x + spread * noise).astype(x.dtype)

    return jax.tree.map(draw, params)


def one(stack, k=0):
    return jax.tree.map(lambda x: x[k], stack)


@functools.cache
def of_case(name, kinds=("permutation",)):
    fn, params, inputs = registry.load()[name].build(jax.random.key(0))
    spec = symmetry.infer(fn, params, *inputs, kinds=kinds)
    return fn, inputs, spec, stack_of(params)


# ------------------------------------------------------------------------------ functions survive
CASES = ["linen/mlp_batchnorm_eval"]
OTHERS = sorted(set(registry.load()) - set(CASES))


FITS = {
    "weights": lambda s, spec: WeightSpace.fit(s, spec=spec),
    "flat": lambda s, spec: FlatSpace.fit(s),
    "channel tokens": lambda s, spec: TokenSpace.fit(s, spec=spec, width=7),
    "neuron tokens": lambda s, spec: TokenSpace.fit(s, spec=spec, kind="neuron"),
    "flat tokens": lambda s, spec: TokenSpace.fit(s, kind="flat", width=16),
    "components": lambda s, spec: PrincipalSpace.fit(s),
    "weights, tokens": lambda s, spec: fit_spaces(
        Population(s, {}, spec),
        WeightSpace.fit,
        functools.partial(TokenSpace.fit, kind="neuron", width=16),
    ),
}


@pytest.mark.parametrize("name", CASES + [pytest.param(n, marks=pytest.mark.slow) for n in OTHERS])
def test_decoding_keeps_the_function(name):
    fn, inputs, spec, stack = of_case(name)
    params, run = one(stack, 2), jax.jit(fn)
    truth = run(params, *inputs)
    shape = lambda tree: jax.tree.map(lambda a: (a.shape, a.dtype), tree)  # noqa: E731
    for what, fit in FITS.items():
        space = fit(stack, spec)
        x, back = eqx.filter_jit(_there_and_back)(space, params)
        assert shape(x) == shape(space.like) and shape(back) == shape(params), what
        bound = 1e-4 if what == "components" else 2e-6  # of float32
        assert far(run(back, *inputs), truth) < bound, what
        if what in ("flat", "channel tokens", "flat tokens"):
            assert far(floats(back), floats(params)) == 0, what


def _there_and_back(space, params):
    x = space.encode(params)
    return x, space.decode(x)


@given(st.integers(0, 2**31 - 1), st.sampled_from(["bfloat16", "float16", "float32", "float64"]))
@settings(max_examples=8)
def test_round_trips_of_any_numbers(seed, dtype):
    random = np.random.default_rng(seed)
    size = 10.0 ** random.integers(-3, 3)
    stack = {
        "w": jnp.asarray(size * random.standard_normal((4, 3, 2)), dtype),
        "layer": {"var": jnp.asarray(size * random.random((4, 2)), jnp.float32)},
        "steps": jnp.arange(4),
    }
    params = one(stack)
    spaces = [FlatSpace.fit(stack), TokenSpace.fit(stack, width=3), IdentitySpace(params)]
    for space in spaces:
        back = space.decode(space.encode(params))
        assert all((a == b).all() for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(params)))
    space = WeightSpace.fit(stack)
    assert [path for path, _ in space.logarithms] == ["layer/var"]
    back = space.decode(space.encode(params))
    assert back["w"].dtype == params["w"].dtype and int(back["steps"]) == 0
    pairs = zip(jax.tree.leaves(floats(back)), jax.tree.leaves(floats(params)), strict=True)
    for (a, b), used in zip(pairs, [1e-5, 0.0]):  # a variance is read with 1e-5 added
        a, b, eps = a.astype("float64"), b.astype("float64"), 1e-6 + float(jnp.finfo(b.dtype).eps)
        assert float(jnp.max(jnp.abs(a - b))) <= 8 * eps * (float(jnp.max(jnp.abs(b))) + used)


# ------------------------------------------------------------------------------ the group
@pytest.mark.parametrize("name", CASES)
def test_normalising_commutes_with_permutations(name):
    fn, inputs, spec, stack = of_case(name)
    space = WeightSpace.fit(stack, spec=spec)
    params, g = one(stack), spec.sample(jax.random.key(1))
    assert any((x != spec.identity()[n]).any() for n, x in g.items())
    assert far(space.encode(spec.act(g, params)), space.spec.act(g, space.encode(params))) < 1e-12
    assert abs(float(np.mean([jnp.mean(x) for x in jax.tree.leaves(space.encode_all(stack))]))) < 1


def test_normalising_commutes_with_signs():
    fn, params, x, spec = shallow("sign")
    params = params | {"c": jnp.arange(4.0)}
    spec = symmetry.infer(
        lambda p, x: fn(p, x) @ jnp.reshape(p["c"], (2, 2)),
        params,
        x,
        kinds=("permutation", "sign"),
    )
    stack = jax.tree.map(lambda v: v + 1.0, stack_of(params))  # means that are not zero
    space = WeightSpace.fit(stack, spec=spec)
    g, params = spec.sample(jax.random.key(1)), one(stack)
    assert any((v == -1).any() for v in g.values())
    assert far(space.encode(spec.act(g, params)), spec.act(g, space.encode(params))) < 1e-12
    largest = {n: float(jnp.abs(v).max()) for n, v in space.normaliser.mean.items()}
    assert largest.pop("c") > 1 and set(largest.values()) == {0.0}  # no sign acts on `c`


def test_normalised_weights_have_mean_zero_and_deviation_one():
    stack = {"w": 5 + 3 * jax.random.normal(jax.random.key(0), (50, 4, 5)), "n": jnp.ones((50, 2))}
    x = WeightSpace.fit(stack).encode_all(stack)
    assert abs(float(x["w"].mean())) < 1e-12 and abs(float(x["w"].std()) - 1) < 1e-12
    assert float(jnp.abs(x["n"]).max()) == 0  # constants are zero, and come back


def test_variances_stay_positive_whatever_is_generated():
    fn, params, x = nets.batch_norm(False)
    spec = symmetry.infer(fn, params, x, kinds=("permutation", "scale"))
    space = WeightSpace.fit(stack_of(params), spec=spec)
    assert dict(space.logarithms) == {
        "var": pytest.approx(1e-3, rel=1e-3)
    }  # the epsilon that is used
    wild = jax.tree.map(lambda a: 30 * jax.random.normal(jax.random.key(0), a.shape), space.like)
    assert float(space.decode(wild)["var"].min()) >= 0
    assert bool(jnp.isfinite(fn(space.decode(wild), x)).all())


def test_what_must_be_positive_can_be_named():
    stack = {"rate": jnp.array([[0.5], [2.0]]), "var": jnp.array([[-1.0], [1.0]])}
    assert WeightSpace.fit(stack).logarithms == ()  # a negative entry: this is no variance
    assert WeightSpace.fit(stack, positive={"rate": 0.0}).logarithms == (("rate", 0.0),)
    with pytest.raises(ValueError, match="no logarithm"):
        WeightSpace.fit(stack, positive=["var"])
    with pytest.raises(ValueError, match="there is no leaf 'x'"):
        WeightSpace.fit(stack, positive=["x"])


# ------------------------------------------------------------------------------ tokens, components
def test_masks_say_where_tokens_are_padded():
    stack = {"a": jnp.ones((3, 2, 5)), "b": jnp.ones((3, 5, 1))}
    space = TokenSpace.fit(stack, width=4)
    x, mask = space.encode(one(stack)), space.mask
    assert x.shape == mask.shape and ((x != 0) == (mask > 0)).all()
    noisy = x + 7 * (1 - mask)
    assert far(space.decode(noisy), one(stack)) == 0  # what stands in the padding is dropped
    with pytest.raises(ValueError, match="width"):
        TokenSpace.fit(stack, kind="flat")
    with pytest.raises(ValueError, match="kinds"):
        TokenSpace.fit(stack, kind="layer")


def test_components_project_and_hold_the_variance():
    base = jax.random.normal(jax.random.key(0), (2, 30))
    weights = jax.random.normal(jax.random.key(1), (40, 2)) * jnp.array([3.0, 1.0])
    stack = {"w": (weights @ base + 2.0).reshape(40, 5, 6)}
    space = PrincipalSpace.fit(stack)
    assert space.components.shape == (2, 30) and abs(space.explained - 1) < 1e-9
    x = space.encode_all(stack)
    assert abs(float(jnp.mean(x**2)) - 1) < 1e-9
    assert far(space.decode_all(x), stack) < 1e-6
    white = PrincipalSpace.fit(stack, whiten=True).encode_all(stack)
    np.testing.assert_allclose(white.T @ white / 40, np.eye(2), atol=1e-9)
    few = PrincipalSpace.fit(stack, components=1)
    other = jax.tree.map(lambda v: v + 1.0, one(stack))
    once = few.decode(few.encode(other))
    assert far(few.decode(few.encode(once)), once) < 1e-9  # a projection
    assert PrincipalSpace.fit(stack, components=0.5).like.shape == (1,)
    with pytest.raises(ValueError, match="have 2"):
        PrincipalSpace.fit(stack, components=3)
    with pytest.raises(ValueError, match="all the same"):
        PrincipalSpace.fit({"w": jnp.ones((3, 2))})


# ------------------------------------------------------------------------------ subsets
def test_a_subset_keeps_the_rest():
    fn, params, x = nets.batch_norm(False)
    stack = stack_of(params)
    space = SubsetSpace.fit(stack, ["g", "s", "mean", "var"], kept=one(stack, 3))
    y = space.encode(one(stack, 3))
    assert space.paths == ("g", "mean", "s", "var") and y["w0"] is None
    assert far(space.decode(y), one(stack, 3)) == 0
    assert far(fn(space.decode(space.encode(one(stack, 1))), x), fn(one(stack, 1), x)) > 1e-3
    with pytest.raises(ValueError, match="matches 'gain'"):
        SubsetSpace.fit(stack, ["gain"])


def test_what_stays_where_it_is_cannot_be_exchanged():
    fn, params, x = nets.mlp(jnp.tanh)
    spec = symmetry.infer(fn, params, x, kinds=("permutation", "sign"))
    stack = stack_of(params)
    space = SubsetSpace.fit(Population(stack, {}, spec), ["w0", "b0"])
    assert space.spec.units == () and space.spec.generators == ()  # w1 tells the units apart
    kept = one(stack) | {"w1": jnp.ones((5, 4)), "b1": jnp.ones(4), "w2": jnp.ones((4, 2))}
    left = restrict(spec, kept, ["w0", "b0"])
    assert [u.size for u in left.units] == [5]  # all look the same to what is kept
    g = left.sample(jax.random.key(0))
    whole = kept | left.act(g, {n: kept[n] for n in ("w0", "b0")})
    assert far(fn(whole, x), fn(kept, x)) < 1e-9
    with pytest.raises(ValueError, match="no leaves"):
        restrict(spec, kept, ["w9"])


def test_nested_units_over_ones_that_are_fixed():
    fn, params, x = nets.attention(True)
    spec = symmetry.infer(fn, params, x, kinds=("permutation",))
    chosen = ["q", "k", "bq", "bk"]
    left = restrict(spec, params, chosen)
    left.validate()
    part = {n: params[n] for n in chosen}
    g = left.sample(jax.random.key(1))
    assert {u.over for u in left.units} and all(
        o.startswith("_") for u in left.units for o in u.over
    )
    moved = left.act(g, part)
    assert far(moved, part) > 1e-3
    assert far(fn(params | moved, x), fn(params, x)) < 1e-9
    assert far(left.unblocks(left.blocks(part), like=part), part) == 0


# ------------------------------------------------------------------------------ one form of all
@functools.cache
def shallow(kind):
    activation = {"scale": jax.nn.relu, "sign": jnp.tanh}[kind]

    def fn(p, x):
        return activation(x @ p["w"] + p["b"]) @ p["v"]

    params, x = nets.normal(0, w=(3, 5), b=(5,), v=(5, 2)), nets.inputs(12, 3)
    return fn, params, x, symmetry.infer(fn, params, x, kinds=("permutation", kind))


@pytest.mark.parametrize("kind", ["scale", "sign"])
def test_canonical_forms_are_those_of_the_orbit(kind):
    fn, params, x, spec = shallow(kind)
    stack = stack_of(params, spread=0.05)
    moved = jax.vmap(lambda k, p: spec.act(spec.sample(k), p))(
        jax.random.split(jax.random.key(3), 6), stack
    )
    space = CanonicalSpace.fit(moved, spec=spec, key=jax.random.key(0))
    x0, x1 = space.encode_all(stack), space.encode_all(moved)
    assert far(x0, x1) < 1e-6  # networks that differ by a symmetry become one
    truth = jax.vmap(fn, (0, None))(stack, x)
    assert far(jax.vmap(fn, (0, None))(space.decode_all(x1), x), truth) < 1e-8

    def spread(s):
        return float(sum(jnp.var(v, 0).sum() for v in jax.tree.leaves(s)))

    assert spread(x1) < 0.2 * spread(moved)


@pytest.mark.slow
def test_canonical_forms_one_at_a_time_and_of_the_mean():
    _, params, _, spec = shallow("scale")
    stack = stack_of(params, spread=0.05)
    space = CanonicalSpace.fit(stack, spec=spec, key=jax.random.key(0))
    together = space.encode_all(stack)
    assert far(eqx.filter_jit(space.encode)(one(stack, 4)), one(together, 4)) < 1e-6

    def spread(s):
        return float(sum(jnp.var(v, 0).sum() for v in jax.tree.leaves(s)))

    mean = CanonicalSpace.fit(stack, spec=spec, key=jax.random.key(0), rounds=2)
    assert spread(mean.encode_all(stack)) <= 1.0001 * spread(together)


def test_spheres_keep_the_function():
    fn, params, x, spec = shallow("scale")
    stack = stack_of(params)
    space = SphereSpace.fit(stack, spec=spec)
    y = space.encode_all(stack)
    lengths = jnp.sqrt(jnp.sum(y["w"] ** 2, 1) + y["b"] ** 2)
    np.testing.assert_allclose(lengths, 2, rtol=1e-9)
    assert abs(float(y["v"].mean())) < 1e-9 and abs(float(y["v"].std()) - 1) < 1e-9
    truth = jax.vmap(fn, (0, None))(stack, x)
    assert far(jax.vmap(fn, (0, None))(space.decode_all(y), x), truth) < 1e-9
    scaled = spec.act(spec.sample(jax.random.key(0), kinds=("scale",)), one(stack))
    assert far(space.encode(scaled), one(y)) < 1e-9
    with pytest.raises(ValueError, match="scal"):
        SphereSpace.fit(stack, spec=symmetry.parse(params, {"w": "_ h", "b": "h", "v": "h _"}))


# ------------------------------------------------------------------------------ all of them
def test_compositions_go_through_jit_and_vmap():
    _, params, _, spec = shallow("scale")
    zoo = Population(stack_of(params), {}, spec)
    components = functools.partial(PrincipalSpace.fit, components=4)
    space = fit_spaces(zoo, WeightSpace.fit, FlatSpace.fit, components)
    together = space.encode_all(zoo.params)
    assert together.shape == (6, 4) and space.like.shape == (4,)
    back = eqx.filter_jit(space.decode_all)(together)
    assert jax.tree.map(jnp.shape, back) == jax.tree.map(jnp.shape, zoo.params)
    alone = eqx.filter_jit(lambda s, p: s.encode(p))(space, zoo[3])
    np.testing.assert_allclose(alone, together[3], atol=1e-9)


@pytest.mark.parametrize(
    "stack, error",
    [
        ({"w": jnp.ones((3, 2), complex)}, "complex"),
        ({"w": jnp.ones((3, 2), int)}, "nothing to generate"),
        ({"w": jnp.ones((0, 2))}, "no network"),
        ({"w": jnp.ones((3, 2)), "v": jnp.ones((4, 2))}, "leading axis"),
    ],
)
def test_networks_that_cannot_be_read(stack, error):
    for fit in (WeightSpace.fit, FlatSpace.fit, TokenSpace.fit, PrincipalSpace.fit):
        with pytest.raises((ValueError, TypeError), match=error):
            fit(stack)


def test_trees_of_other_architectures_are_refused():
    stack = {"w": jnp.ones((3, 2)), "b": jnp.arange(3.0)[:, None]}
    space = FlatSpace.fit(stack)
    with pytest.raises(ValueError, match=r"\(3,\) is expected"):
        space.decode(jnp.ones(4))
    weights = WeightSpace.fit(stack)
    with pytest.raises(ValueError, match="missing"):
        weights.encode({"w": jnp.ones(2)})


def test_networks_where_a_space_is_needed():
    networks = {"w": jnp.zeros((5, 2, 3))}
    space = FlatSpace.fit(networks)
    net = denoisers.FlatDenoiser(space.like, 8, 1, key=jax.random.key(0))
    autoencoder = autoencoders.ConvolutionAutoencoder(space.like, 4, (8, 8), key=jax.random.key(0))
    for make in (
        lambda wrong: generation.Diffusion(net, wrong),
        lambda wrong: generation.Flow(net, wrong),
        lambda wrong: generation.RecurrentDiffusion(net, None, wrong),
        lambda wrong: generation.families.flown(wrong, key=jax.random.key(0)),
        lambda wrong: autoencoders.latent_space(autoencoder, wrong, networks),
        lambda wrong: autoencoders.fit_autoencoder(
            autoencoder,
            wrong,
            networks,
            steps=1,
            batch_size=2,
            optimiser=None,
            key=jax.random.key(0),
        ),
    ):
        with pytest.raises(TypeError, match="a space is expected, not a dict: `WeightSpace.fit"):
            make(networks)

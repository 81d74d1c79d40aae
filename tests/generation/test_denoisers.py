"""Every denoiser, and every method of metanetworks as one: what all of them must do.

One program a case measures it all: a stack of inputs, each of which differs from the first in one thing.
Weights of the denoisers are moved away from where they start, since there everything is zero.
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
from tests.representation.methods.scaled_networks import specs as scaled_specs
from tests.representation.specs import SPECS, spec_of
from wsljax import symmetry
from wsljax.generation.denoisers import (
    EquivariantDenoiser,
    FlatDenoiser,
    FlatUNet,
    FromBeside,
    LevelEmbedding,
    TokenTransformer,
)
from wsljax.generation.spaces import TokenSpace, WeightSpace
from wsljax.representation import methods

KEPT = 1e-10  # in float64, relative to the spread over networks
TOLD = 3
SMALL = {
    "recurrent": {
        "wi": ((2, 3), "_ h"),
        "wh": ((3, 3), "h h"),
        "q": ((3, 2, 2), "h k m[k]"),
        "c": ((2,), "_"),
    }
}
METHODS = methods()
OPTIONS: dict[str, dict[str, Any]] = {"set_encoder": {"chunk": None}}
NOT_EQUIVARIANT = {"flat"}
FAST = {"universal"}
BY_DEFAULT = {"raw/qkv_flat_split"}
SCALED = {"scale_gmn", "monomial", "magep"}


def slow_unless(name: str, fast: Any) -> Any:
    return pytest.param(name, marks=() if name in fast else pytest.mark.slow)


def draws(like: Any, seed: int) -> Any:
    """A tree of those shapes, standard normal."""
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda x: random.normal(size=x.shape), like)


def distance(a: Any, b: Any) -> float:
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(np.max(np.abs(np.asarray(x) - np.asarray(y)), initial=0)) for x, y in pairs)


def member(tree: Any, n: int) -> Any:
    return jax.tree.map(lambda x: np.asarray(x)[n], tree)


def stack(trees: list) -> Any:
    return jax.tree.map(lambda *x: np.stack([np.asarray(a) for a in x]), *trees)


def built(build: Any) -> tuple[Any, Any]:
    """Arrays and the rest of what ``build(key)`` draws, by one compiled program."""
    rest = None

    @quickly
    def arrays():
        nonlocal rest
        found, rest = eqx.partition(build(quick_random.key(0)), eqx.is_inexact_array)
        return found

    return arrays(), rest


def moved(arrays: Any, seed: int = 9, size: float = 0.3) -> Any:
    """Away from zero, in float64."""
    noise = draws(arrays, seed)
    return jax.tree.map(lambda a, n: np.asarray(a, float) + size * n, arrays, noise)


def equivariant(spec: symmetry.Spec, method: str, layers: int = 1, **options: Any) -> Any:
    options = {"told": TOLD, "beside": 1, "width": 8, **OPTIONS.get(method, {}), **options}

    def build(key):
        return EquivariantDenoiser(spec, 4, layers, key=key, method=method, **options)

    return build


LIKE = {"b": jnp.zeros(5), "w": jnp.zeros((3, 5))}
TOKENS = jnp.zeros((4, 6))
MASK = np.array([[1] * 6, [1] * 4 + [0] * 2, [1] * 6, [0] * 6])
KIND = {"told": TOLD, "beside": 1}
DENOISERS = {
    "universal": (
        LIKE,
        equivariant(symmetry.parse(LIKE, {"b": "h", "w": "_ h"}), "universal"),
    ),
    "set_encoder": (
        LIKE,
        equivariant(symmetry.parse(LIKE, {"b": "h", "w": "_ h"}), "set_encoder"),
    ),
    "pieces": (LIKE, lambda key: TokenTransformer.on_trees(LIKE, 8, 2, pieces=4, key=key, **KIND)),
    "whole arrays": (
        LIKE,
        lambda key: TokenTransformer.on_trees(LIKE, 8, 1, pieces=None, key=key, **KIND),
    ),
    "tokens": (TOKENS, lambda key: TokenTransformer.on_tokens(TOKENS, 8, 1, key=key, **KIND)),
    "masked tokens": (
        TOKENS,
        lambda key: TokenTransformer.on_tokens(TOKENS, 8, 1, mask=MASK, key=key, **KIND),
    ),
    "flat": (LIKE, lambda key: FlatDenoiser(LIKE, 8, 2, signal=8, key=key, **KIND)),
    "u-net": (LIKE, lambda key: FlatUNet(LIKE, (4, 8), kernel=3, signal=8, key=key, **KIND)),
}
FAST_DENOISERS = {"pieces", "u-net"}
ALL = [slow_unless(name, FAST_DENOISERS) for name in DENOISERS]


@functools.cache
def drawn(name: str) -> tuple[Any, Any, Any]:
    like, build = DENOISERS[name]
    return like, *built(build)


def inputs(like: Any, dtype: Any = np.float64) -> tuple:
    """Rows: a base, then another x, level, condition and network beside."""
    x, y, other = (draws(like, seed) for seed in range(3))
    rows = [(x, 0.3, 0.0, y), (other, 0.3, 0.0, y), (x, 0.4, 0.0, y), (x, 0.3, 1.0, y)]
    rows.append((x, 0.3, 0.0, other))
    columns = [stack([row[k] for row in rows]) for k in range(4)]
    told = np.arange(TOLD) + columns[2][:, None]
    return jax.tree.map(lambda a: jnp.asarray(a, dtype), (columns[0], columns[1], told, columns[3]))


@pytest.mark.parametrize("name", ALL)
def test_zero_at_first_and_then_everything_matters(name):
    like, arrays, rest = drawn(name)

    @quickly
    def run(arrays, x, level, told, beside):
        net = eqx.combine(arrays, rest)
        return jax.vmap(lambda x, s, c, y: net(x, s, c, (y,)))(x, level, told, beside)

    columns = inputs(like)
    out = run(jax.tree.map(lambda a: np.asarray(a, float), arrays), *columns)
    assert jax.tree.map(jnp.shape, out) == jax.tree.map(jnp.shape, columns[0])
    assert distance(out, jax.tree.map(jnp.zeros_like, out)) == 0
    out = run(moved(arrays), *columns)
    for n, what in enumerate(
        ("the weights", "the level", "the condition", "the network beside"), 1
    ):
        assert distance(member(out, n), member(out, 0)) > 1e-4, f"{what} does not matter"


@pytest.mark.slow
@pytest.mark.parametrize("name", DENOISERS)
def test_dtypes_are_kept_and_batches_are_loops(name):
    like, arrays, rest = drawn(name)
    net = eqx.combine(moved(arrays, size=0.1), rest)
    outs = {}
    for dtype in (jnp.float64, jnp.float32, jnp.bfloat16):
        x, level, told, beside = inputs(like, dtype)
        out = quickly(jax.vmap(lambda x, s, c, y: net(x, s, c, (y,))))(x, level, told, beside)
        assert {a.dtype for a in jax.tree.leaves(out)} == {jnp.dtype(dtype)}
        outs[dtype] = out
    x, level, told, beside = inputs(like)
    one = net(member(x, 1), level[1], told[1], (member(beside, 1),))
    assert distance(one, member(outs[jnp.float64], 1)) < 1e-12
    size = distance(outs[jnp.float64], jax.tree.map(jnp.zeros_like, outs[jnp.float64]))
    assert distance(outs[jnp.float32], outs[jnp.float64]) < 1e-4 * size
    assert distance(outs[jnp.bfloat16], outs[jnp.float64]) < 0.3 * size


def test_padding_has_no_gradient_and_no_value():
    """What stands in padding does not matter, nothing comes out there, and no map learns from it."""
    like, arrays, rest = drawn("masked tokens")
    x, level, told, beside = (member(a, 0) for a in inputs(like))
    filled = np.where(MASK, x, 1e6)

    @quickly
    def run(arrays, x, y):
        def loss(arrays, x, y):
            out = eqx.combine(arrays, rest)(x, level, told, (y,))
            return jnp.sum(jnp.sin(out + 1)), out

        return jax.grad(loss, (0, 1, 2), has_aux=True)(arrays, x, y)

    arrays = moved(arrays)
    (of_arrays, of_x, of_y), out = run(arrays, filled, beside)
    (_, plain_x, _), plain = run(arrays, x, beside)
    assert distance(out, plain) == 0 and distance(of_x, plain_x) == 0
    for found in (of_x, of_y, np.asarray(out)):
        assert not np.where(MASK, 0, found).any() and np.where(MASK, found, 0).any()
    assert all(np.isfinite(a).all() for a in jax.tree.leaves(of_arrays))


def test_wrong_calls_are_told():
    like, arrays, rest = drawn("flat")
    net = eqx.combine(arrays, rest)
    x, told = draws(like, 0), jnp.zeros(TOLD)
    level = jnp.asarray(0.3)
    with pytest.raises(ValueError, match=r"`told` has shape None; expected \(3,\)"):
        net(x, level, None, (x,))
    with pytest.raises(ValueError, match=r"`told` has shape \(2,\)"):
        net(x, level, told[:2], (x,))
    with pytest.raises(ValueError, match="there are 0 trees beside"):
        net(x, level, told)
    with pytest.raises(ValueError, match=r"'b' has shape \(4,\), in the weights \(5,\)"):
        net(x, level, told, ({**x, "b": np.zeros(4)},))
    with pytest.raises(ValueError, match="another structure"):
        net(x, level, told, (x["w"],))
    with pytest.raises(ValueError, match="`level` has shape"):
        net(x, jnp.zeros(2), told, (x,))
    tree, tokens = (eqx.combine(*drawn(name)[1:]) for name in ("pieces", "masked tokens"))
    with pytest.raises(ValueError, match="another tree"):
        tree({**x, "w": np.zeros((2, 5))}, level, told, ({**x, "w": np.zeros((2, 5))},))
    with pytest.raises(ValueError, match="expected \\(4, 6\\)"):
        tokens(np.zeros((2, 4, 6)), level, told, (np.zeros((2, 4, 6)),))
    with pytest.raises(ValueError, match="must be odd"):
        LevelEmbedding(4)
    with pytest.raises(ValueError, match="must be one of"):
        LevelEmbedding(5, kind="cosine")


def count(build: Any) -> int:
    """Parameters of what ``build(key)`` draws, without drawing them."""
    net = eqx.filter_eval_shape(build, jax.random.key(0))
    return sum(a.size for a in jax.tree.leaves(net) if isinstance(a, jax.ShapeDtypeStruct))


def test_parameters_are_counted():
    """The sizes that can be said in advance."""
    n, width, signal = 20, 8, 16

    def flat(**options: Any) -> int:
        options = {"signal": signal, "embed": LevelEmbedding(5), **options}
        return count(lambda key: FlatDenoiser(LIKE, width, 2, key=key, **options))

    level = (5 + 1) * signal + (signal + 1) * signal
    block = (signal + 1) * 3 * width + (width + 1) * 2 * width + (2 * width + 1) * width
    ends = (n + 1) * width + (width + 1) * n + (signal + 1) * 2 * width + (signal + 1)
    assert flat() == level + 2 * block + ends
    told, beside = (TOLD + 1) * signal, 2 * n * width + 2 * (signal + 1)
    assert flat(told=TOLD, beside=2) == flat() + told + beside
    wide = {"b": jnp.zeros(50), "w": jnp.zeros((3, 50))}
    specs = [symmetry.parse(x, {"b": "h", "w": "_ h"}) for x in (LIKE, wide)]
    sizes = [count(equivariant(spec, "universal")) for spec in specs]
    assert sizes[0] == sizes[1], "parameters of an equivariant denoiser depend on widths"


def test_answers_with_the_network_beside_at_first():
    like, arrays, rest = drawn("pieces")
    net = FromBeside(eqx.combine(arrays, rest))
    x, start = draws(like, 0), draws(like, 1)
    out = net(x, jnp.asarray(0.3), jnp.zeros(TOLD), (start,))
    assert distance(out, start) == 0
    with pytest.raises(ValueError, match="no network beside"):
        net(x, jnp.asarray(0.3), jnp.zeros(TOLD))


def laws(spec: symmetry.Spec, method: str, like: Any, kinds: Any = None, **options: Any) -> None:
    """Moving the weights and the network beside moves what comes out; and the rest matters."""
    arrays, rest = built(equivariant(spec, method, **options))
    columns = inputs(like)
    g = spec.sample(quick_random.key(4), **({} if kinds is None else {"kinds": kinds}))

    @quickly
    def run(arrays, x, level, told, beside):
        net = eqx.combine(arrays, rest)

        def one(x, s, c, y):
            return net(x, s, c, (y,))

        out = jax.lax.map(lambda row: one(*row), (x, level, told, beside))
        first = [jax.tree.map(lambda a: a[0], tree) for tree in (x, beside, out)]
        moved_x, moved_y, expected = (spec.act(g, tree) for tree in first)
        return out, one(moved_x, level[0], told[0], moved_y), expected

    out, _, _ = run(jax.tree.map(lambda a: np.asarray(a, float), arrays), *columns)
    assert distance(out, jax.tree.map(np.zeros_like, out)) == 0, "not zero at first"
    out, found, expected = run(moved(arrays), *columns)
    spread = distance(member(out, 1), member(out, 0))
    assert spread > 1e-3
    error = distance(found, expected) / spread
    if method in NOT_EQUIVARIANT:
        assert error > 1e-3, "said not to be equivariant, and is"
    else:
        assert error < KEPT, f"moving units breaks it by {error}"
    for n in (2, 3, 4):
        assert distance(member(out, n), member(out, 0)) > 1e-5 * spread, f"input {n} is not seen"


@pytest.mark.parametrize("method", [slow_unless(m, FAST) for m in METHODS])
def test_every_method_denoises(method):
    spec = spec_of(SMALL["recurrent"])
    laws(spec, method, {leaf.path: np.zeros(leaf.shape) for leaf in spec.leaves}, layers=2)


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_on_every_spec(method, name):
    spec = spec_of(SPECS[name])
    laws(spec, method, {leaf.path: np.zeros(leaf.shape) for leaf in spec.leaves})


@pytest.mark.parametrize("name", [slow_unless(n, {"tanh"}) for n in scaled_specs()])
@pytest.mark.parametrize("method", [slow_unless(m, {"scale_gmn"}) for m in sorted(SCALED)])
def test_scales_and_signs_are_respected(method, name):
    """Level and condition modulate features that signs flip without shifting them."""
    spec = scaled_specs()[name]
    if any(gen.carries for gen in spec.generators):
        pytest.skip("moves weights by more than a factor, which no pass-through respects")
    like = {leaf.path: np.zeros(leaf.shape) for leaf in spec.leaves}
    laws(spec, method, like, kinds=("permutation", "scale", "sign"))


@pytest.mark.parametrize("name", [slow_unless(n, BY_DEFAULT) for n in registry.load()])
@pytest.mark.parametrize("method", [slow_unless(m, {"universal"}) for m in METHODS])
def test_every_architecture(method, name):
    case = registry.CASES[name]
    fn, params, arguments = case.build(quick_random.key(0))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="no rule for", category=UserWarning)
        spec = symmetry.infer(fn, params, *arguments, kinds=("permutation",), **case.infer_kwargs)
    stacked = jax.tree.map(lambda x: jnp.stack([x, x]) if hasattr(x, "shape") else x, params)
    try:
        space = WeightSpace.fit(stacked, spec=spec)
    except TypeError as error:
        pytest.skip(str(error))
    like = jax.tree.map(lambda x: np.zeros(x.shape), space.encode(params))
    if method in NOT_EQUIVARIANT and space.spec.log_order() == 0:
        pytest.skip("nothing to move")
    laws(space.spec, method, like)


def test_the_cases_run_by_default_exist():
    assert set(registry.load()) >= BY_DEFAULT and set(METHODS) >= FAST | SCALED
    assert set(DENOISERS) >= FAST_DENOISERS


@pytest.mark.slow
def test_other_widths():
    """An equivariant denoiser reads networks of other widths."""
    narrow = spec_of(SMALL["recurrent"])
    sizes = {"wi": (2, 5), "wh": (5, 5), "q": (5, 3, 4), "c": (2,)}
    wide = spec_of({k: (shape, SMALL["recurrent"][k][1]) for k, shape in sizes.items()})
    arrays, rest = built(equivariant(narrow, "universal"))
    net = eqx.combine(moved(arrays), rest)
    like = {path: np.zeros(shape) for path, shape in sizes.items()}
    x, y, told = draws(like, 0), draws(like, 1), jnp.zeros(TOLD)
    g = wide.sample(quick_random.key(1))
    run = quickly(lambda x, y: net(x, jnp.asarray(0.3), told, (y,), wide))
    out = run(x, y)
    assert jax.tree.map(jnp.shape, out) == jax.tree.map(jnp.shape, like)
    assert distance(run(wide.act(g, x), wide.act(g, y)), wide.act(g, out)) < 1e-10


@pytest.mark.slow
def test_token_space_and_transformer_fit():
    """Positions and mask of a token space, with a padded token."""
    params = {"a": {"w": np.ones((2, 3, 4)), "b": np.ones((2, 4))}, "c": {"w": np.ones((2, 4, 2))}}
    space = TokenSpace.fit(params)
    net = TokenTransformer.on_tokens(
        space.like,
        8,
        1,
        positions=space.tokeniser.positions,
        mask=space.mask,
        key=jax.random.key(0),
    )
    one = jax.tree.map(lambda x: x[0], params)
    out = net(space.encode(one), jnp.asarray(0.5))
    assert out.shape == space.like.shape
    assert not space.mask.all() and net.mask is not None

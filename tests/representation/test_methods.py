"""Every registered method over a list of specs: what all of them must do, measured by one program each.

A method is known by its name alone; a new one is tested as soon as it is registered. What a method
does not promise it declares on the class of its trunk (see ``promise``), and then the opposite is
tested: a network that claims nothing must be seen to break the law.

Errors are relative to the spread of the outputs over networks, which is shown not to vanish. By default
each method runs on one small spec; others, and every architecture of the registry, are ``slow``.
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
from wsljax import symmetry, train
from wsljax.representation import Editor, Metanetwork, methods

from .specs import SPECS, spec_of

KEPT = {"float64": 1e-10, "float32": 1e-4}
HALF = (
    0.25  # bfloat16 against float64, relative to the spread: three digits, through a whole network
)
CHANNELS, LAYERS = 4, 2

OPTIONS: dict[str, dict[str, Any]] = {
    "set_encoder": {"chunk": 4},  # so that small blocks have several chunks
}
"""What a method needs on small specs; a method that is not here is built with no option."""

SMALL = {
    "recurrent": {
        "wi": ((2, 3), "_ h"),
        "wh": ((3, 3), "h h"),
        "b": ((3,), "h"),
        "q": ((3, 2, 2), "h k m[k]"),
        "o": ((2, 2), "k m[k]"),
        "c": ((2,), "_"),
    },
    "dense": {
        "w0": ((2, 3), "_ a"),
        "b0": ((3,), "a"),
        "w1": ((3, 4), "a b"),
        "b1": ((4,), "b"),
        "w2": ((4, 1), "b _"),
        "b2": ((1,), "_"),
    },
}
WIDER = {
    "recurrent, wider": {
        "wi": ((2, 5), "_ h"),
        "wh": ((5, 5), "h h"),
        "b": ((5,), "h"),
        "q": ((5, 3, 4), "h k m[k]"),
        "o": ((3, 4), "k m[k]"),
        "c": ((2,), "_"),
    },
}
WIDE = {
    "w0": ((2, 16), "_ a"),
    "b0": ((16,), "a"),
    "w1": ((16, 12), "a b"),
    "b1": ((12,), "b"),
    "w2": ((12, 3), "b _"),
    "b2": ((3,), "_"),
}
METHODS = methods()
PAIRS = [
    pytest.param(m, s, marks=() if s == "recurrent" else pytest.mark.slow)
    for m in METHODS
    for s in (*SMALL, *SPECS)
]


FEW = [pytest.param(m, marks=() if m == "universal" else pytest.mark.slow) for m in METHODS]
"""All methods, most of them only if asked for."""


def promise(net: Any, what: str) -> bool:
    """What the trunk's class says about itself; everything is promised unless it says ``False``.

    ``equivariant``: moving units moves the features. ``joint``: units that move in one array alone are
    seen; without it they are not, but where the same units stand twice. ``any_width``: other widths of
    the same structure can be read.
    """
    return getattr(type(net.trunk), what, True)


def build(method: str, spec: symmetry.Spec, layers: int = LAYERS, **options: Any) -> tuple:
    """A metanetwork and an editor of one trunk, in float64."""
    options = {"dtype": jnp.float64, **OPTIONS.get(method, {}), **options}
    rest = None

    @quickly  # many small draws, compiled as one
    def arrays():
        nonlocal rest
        keys = quick_random.key(0), quick_random.key(1)
        net = Metanetwork(spec, CHANNELS, layers, 2, key=keys[0], method=method, **options)
        edit = Editor(spec, CHANNELS, layers, key=keys[1], method=method, **options)
        pair = net, eqx.tree_at(lambda e: e.trunk, edit, net.trunk)
        found, rest = eqx.partition(pair, eqx.is_array)
        return found

    return eqx.combine(arrays(), rest)


def draw(spec: symmetry.Spec, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {leaf.path: random.normal(size=leaf.shape) for leaf in spec.leaves}


def stack(trees: list) -> Any:
    return jax.tree.map(lambda *x: jnp.asarray(np.stack(x)), *trees)


def member(tree: Any, n: int) -> Any:
    return jax.tree.map(lambda x: x[n], tree)


def cast(tree: Any, dtype: Any) -> Any:
    return jax.tree.map(lambda x: x.astype(dtype), tree)


def distance(a: Any, b: Any) -> float:
    pairs = zip(*map(jax.tree.leaves, (a, b)), strict=True)
    return max(
        float(np.max(np.abs(np.asarray(x, float) - np.asarray(y, float)), initial=0))
        for x, y in pairs
    )


def on_host(tree: Any) -> Any:
    return jax.tree.map(np.asarray, tree)


class Networks:
    """Weights to measure with: three draws, the first moved by elements of the group, and by less.

    ``alone`` says which units of which array were moved and nothing else, ``twice`` in which of them
    the same units stand twice; ``moved(tree)`` takes weights to where each of the elements takes them.
    """

    def __init__(self, leaves: dict, controls: bool = True):
        self.spec = spec = spec_of(leaves)
        elements = [spec.sample(quick_random.key(10 + k)) for k in range(2)]
        self.moved = quickly(lambda tree: [spec.act(g, tree) for g in elements])
        first = draw(spec, 0)
        trees = [first, draw(spec, 1), draw(spec, 2), *on_host(self.moved(first))]
        self.alone, self.twice = [], set()
        for leaf in spec.leaves if controls else ():
            for axis, text in enumerate(spec.axes[leaf.path].split()):
                if not text.startswith("_") and len(leaf.shape) > 1:
                    trees.append({**first, leaf.path: np.roll(first[leaf.path], 1, axis)})
                    self.alone.append(f"{leaf.path} axis {axis}")
                    if spec.axes[leaf.path].split().count(text) > 1:
                        self.twice.add(self.alone[-1])
        self.stacked = stack(trees)


@functools.lru_cache(maxsize=8)
def networks(name: str) -> Networks:
    return Networks({**SPECS, **SMALL, **WIDER}[name], controls=name in SMALL)


class Measured:
    """Everything one program says of a method on a spec: answers and edits for each network.

    Attributes:
        one: in float64, network by network.
        grads: of a sum of all outputs, in the parameters.
    """

    def __init__(self, method: str, name: str):
        self.networks = networks(name)
        self.spec = spec = self.networks.spec
        self.pair = build(method, spec)
        arrays, rest = eqx.partition((self.pair[0], self.pair[1].readout), eqx.is_inexact_array)
        self.traces = 0

        def run(arrays, params):
            net, readout = eqx.combine(arrays, rest)
            x = net.trunk(spec.blocks(params))
            return _answer(net, x), spec.unblocks(readout(x), like=params)

        def loss(arrays, params):
            answer, edit = run(arrays, params)
            weights = jnp.arange(1.0, answer.size + 1)
            return jnp.sum(weights * answer) + sum(
                jnp.sum(jnp.sin(x + 1)) for x in jax.tree.leaves(edit)
            )

        @quickly
        def program(arrays, params):
            self.traces += 1
            one = jax.lax.map(lambda p: run(arrays, p), params)
            return one, jax.grad(loss)(arrays, member(params, 1))

        found = program(arrays, self.networks.stacked)
        self.one, self.grads = on_host(found)
        program(on_host(found[1]), jax.tree.map(lambda x: 1.5 * x, self.networks.stacked))
        self.spread = [distance(member(tree, 0), member(tree, 1)) for tree in self.one]
        self._batch = quickly(lambda p: jax.vmap(lambda p: run(arrays, p))(p))

    def batch(self, dtype: Any) -> Any:
        """All networks at once, in another dtype."""
        return self._batch(cast(self.networks.stacked, dtype))

    def errors(self, tree: Any) -> list[float]:
        """How far answers and edits are from where the elements should take them."""
        answers, edits = tree
        expected = on_host(self.networks.moved(member(edits, 0)))
        return [
            distance(member(answers, 3 + n), member(answers, 0)) / self.spread[0] for n in range(2)
        ] + [distance(member(edits, 3 + n), expected[n]) / self.spread[1] for n in range(2)]


def _answer(net: Metanetwork, features: Any) -> jax.Array:
    pooled = net.pool(features)
    return jax.tree.map(
        lambda x: x.astype(pooled.dtype) if eqx.is_inexact_array(x) else x, net.head
    )(pooled)


@functools.lru_cache(maxsize=4)
def measured(method: str, name: str) -> Measured:
    return Measured(method, name)


@pytest.mark.parametrize("method, name", PAIRS)
def test_the_laws(method, name):
    """In one test, since one program measures them; each failure says which law it is."""
    m = measured(method, name)
    net, _ = m.pair
    assert min(m.spread) > 1e-3, f"outputs hardly vary over networks: {m.spread}"

    errors = m.errors(m.one)
    if promise(net, "equivariant"):
        assert max(errors) <= KEPT["float64"], f"moving units breaks it: {errors}"
    elif m.spec.log_order() > 0:
        assert max(errors) > 1e-3, "said not to be equivariant, and is"

    for k, where in enumerate(m.networks.alone):
        size = distance(member(m.one[0], 5 + k), member(m.one[0], 0)) / m.spread[0]
        if promise(net, "joint"):
            assert size > 1e-6, f"{where} moved alone is not seen: {size}"
        elif where not in m.networks.twice:
            assert size <= KEPT["float64"], f"{where} moved alone is seen: {size}"

    assert m.traces == 1, "other weights of the same shapes are traced again"

    without = declared_without_gradient(net)
    for path, x in jax.tree_util.tree_leaves_with_path(m.grads):
        name_of = jax.tree_util.keystr(path)
        assert np.isfinite(x).all(), f"gradient of {name_of} is not finite"
        if x.size and not any(part in name_of for part in without):
            assert np.abs(x).max() > 0, f"gradient of {name_of} vanishes"


@pytest.mark.parametrize("method", FEW)
def test_other_dtypes_and_batches(method):
    """``vmap`` in float32 and in bfloat16, against float64 one by one; dtypes are kept."""
    m = measured(method, "recurrent")
    net, _ = m.pair
    for dtype, bound in ((jnp.float32, KEPT["float32"]), (jnp.bfloat16, HALF)):
        tree = m.batch(dtype)
        assert {x.dtype for x in jax.tree.leaves(tree)} == {jnp.dtype(dtype)}
        for one, many, spread in zip(m.one, tree, m.spread, strict=True):
            assert distance(one, many) <= bound * spread, f"off: {distance(one, many) / spread}"
        if promise(net, "equivariant"):
            assert max(m.errors(on_host(tree))) <= 2 * bound


def declared_without_gradient(net: Any) -> tuple[str, ...]:
    """Paths of arrays that the trunk's class says are no parameters (``without_gradient``)."""
    return tuple(getattr(type(net.trunk), "without_gradient", ()))


@pytest.mark.parametrize("method", FEW)
def test_other_widths(method):
    """One set of parameters reads networks of any widths, exactly as it should."""
    net, edit = measured(method, "recurrent").pair
    wide = networks("recurrent, wider")
    if not promise(net, "any_width"):
        for read in (net, edit):
            with pytest.raises(ValueError, match="width"):
                read(member(wide.stacked, 0), wide.spec)
        return
    run = quickly(jax.vmap(lambda p: (net(p, wide.spec), edit(p, wide.spec))))
    answers, edits = on_host(run(wide.stacked))
    spread = [distance(member(tree, 0), member(tree, 1)) for tree in (answers, edits)]
    assert jax.tree.map(np.shape, edits) == jax.tree.map(np.shape, wide.stacked)
    assert min(spread) > 1e-3
    if promise(net, "equivariant"):
        for n, expected in enumerate(wide.moved(member(edits, 0))):
            off = distance(member(answers, 3 + n), member(answers, 0))
            assert off <= KEPT["float64"] * spread[0]
            assert distance(member(edits, 3 + n), expected) <= KEPT["float64"] * spread[1]


@pytest.mark.parametrize("method", FEW)
def test_a_batch_over_four_devices(method):
    """The same as on one, and it stays on the four."""
    m = measured(method, "recurrent")
    mesh = train.make_mesh()
    assert mesh.size == 4
    batch = train.shard(jax.tree.map(lambda x: x[:4], m.networks.stacked), mesh)
    net, edit = m.pair
    found = quickly(jax.vmap(lambda params: (net(params), edit(params))))(batch)
    for one, many, spread in zip(m.one, found, m.spread, strict=True):
        assert all(len(x.sharding.device_set) == 4 for x in jax.tree.leaves(many))
        first = jax.tree.map(lambda x: x[:4], one)
        assert distance(first, many) <= KEPT["float64"] * spread


@pytest.mark.parametrize("method", FEW)
def test_ten_layers_keep_the_signal(method):
    """At initialisation: outputs of order one that still tell networks apart, ten layers down."""
    spec = spec_of(WIDE)
    options = {"dtype": jnp.float32, **OPTIONS.get(method, {})}

    @quickly
    def run(batch):
        edit = Editor(spec, 16, 10, key=quick_random.key(1), method=method, **options)
        return jax.vmap(edit)(batch)

    out = run(cast(stack([draw(spec, k) for k in range(16)]), jnp.float32))
    square = np.mean([float(jnp.mean(jnp.square(x))) for x in out.values()])
    varies = np.mean([float(jnp.mean(jnp.var(x, axis=0))) for x in out.values()])
    assert 0.05 < square < 20, f"mean square {square}"
    assert varies > 0.01 * square, f"variance over networks {varies} of mean square {square}"


@pytest.mark.parametrize("method", FEW)
def test_remat_and_unrolling_change_nothing(method):
    spec = spec_of(SMALL["recurrent"])
    params = draw(spec, 2)

    def outcome(**options):
        net, _ = build(method, spec, 3, **options)
        arrays, rest = eqx.partition(net, eqx.is_inexact_array)
        loss = quickly(
            jax.value_and_grad(lambda a: jnp.sum(jnp.sin(eqx.combine(a, rest)(params) + 1)))
        )
        return loss(arrays)

    plain = outcome()
    for options in ({"remat": True}, {"unroll": 3}):
        try:
            other = outcome(**options)
        except TypeError as error:
            assert "unexpected keyword" in str(error)
            continue
        assert distance(plain, other) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", registry.load())
def test_every_architecture(method, name):
    case = registry.CASES[name]
    fn, params, inputs = case.build(quick_random.key(0))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="no rule for", category=UserWarning)
        spec = symmetry.infer(fn, params, *inputs, kinds=("permutation",), **case.infer_kwargs)
    leaves, treedef = jax.tree.flatten(params)
    if not all(jnp.issubdtype(jnp.result_type(x), jnp.number) for x in leaves):
        pytest.skip("random keys among the weights")
    keys = jax.random.split(quick_random.key(3), 2 * len(leaves)).reshape(2, -1)
    params, other = (
        jax.tree.unflatten(
            treedef,
            [
                jax.random.normal(k, jnp.shape(x), jnp.float64)
                for k, x in zip(row, leaves, strict=True)
            ],
        )
        for row in keys
    )
    net, edit = build(method, spec, 1)
    run = quickly(lambda p: (net(p), edit(p)))
    g = spec.sample(quick_random.key(4))
    (answer, edited), (far, far_edited) = run(params), run(other)
    assert distance(answer, far) > 1e-3 and distance(edited, far_edited) > 1e-3
    if promise(net, "equivariant"):
        moved_answer, moved_edited = run(spec.act(g, params))
        assert distance(moved_answer, answer) <= KEPT["float64"] * distance(answer, far)
        expected = spec.act(g, edited)
        assert distance(moved_edited, expected) <= KEPT["float64"] * distance(edited, far_edited)

"""Networks with scales and signs, their specs with hand-written generators, and how laws are measured."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from tests.architectures import quick_random
from tests.architectures.registry import quickly
from wsljax import symmetry
from wsljax.representation import Editor, Metanetwork
from wsljax.representation.scaling.pieces import with_generators
from wsljax.symmetry import Carry, Scale, Sign, Term

KEPT = 1e-10  # relative to the spread over networks
KINDS = ("permutation", "scale", "sign")
relu = jax.nn.relu

MLP = {
    "w0": ((2, 3), "_ a"),
    "b0": ((3,), "a"),
    "w1": ((3, 4), "a b"),
    "b1": ((4,), "b"),
    "w2": ((4, 2), "b _"),
    "b2": ((2,), "_"),
}


def spec_of(leaves: dict, *generators: Any) -> symmetry.Spec:
    like = {path: jax.ShapeDtypeStruct(shape, jnp.float64) for path, (shape, _) in leaves.items()}
    spec = symmetry.parse(like, {path: text for path, (_, text) in leaves.items()})
    return with_generators(spec, generators)


def both(kind: Any, out: float = 1, **options: Any) -> list:
    """For the units of the MLP: weights in times ``s``, weights out times ``s ** -out`` (or signs)."""
    return [
        kind(
            f"{kind.kind} {u}",
            u,
            (Term(w, 1), Term(b, 0), Term(v, 0, -out)),
            n,
            **{k: x(u) for k, x in options.items()},
        )
        for u, n, w, b, v in (("a", 3, "w0", "b0", "w1"), ("b", 4, "w1", "b1", "w2"))
    ]


def centred(u: str) -> tuple[Carry, ...]:
    bias, weight = {"a": ("b1", "w1"), "b": ("b2", "w2")}[u]
    return (Carry(bias, weight, "a,ab->b", 0.5),)


def specs() -> dict[str, symmetry.Spec]:
    return {
        "relu": spec_of(MLP, *both(Scale)),
        "tanh": spec_of(MLP, *both(Sign)),
        "relu squared": spec_of(MLP, *both(Scale, 2)),
        "sigmoid": spec_of(MLP, *both(Sign, carries=centred)),
        "mixed": spec_of(MLP, both(Scale)[0], both(Sign)[1]),
        "plain": spec_of(MLP),
        "cnn": spec_of(
            {
                "k0": ((3, 3, 1, 3), "_ _ _ a"),
                "b0": ((3,), "a"),
                "k1": ((3, 3, 3, 4), "_ _ a b"),
                "b1": ((4,), "b"),
                "w": ((4, 2), "b _"),
            },
            Scale("a*", "a", (Term("k0", 3), Term("b0", 0), Term("k1", 2, -1)), 3),
            Scale("b*", "b", (Term("k1", 3), Term("b1", 0), Term("w", 0, -1)), 4),
        ),
        "batch norm": spec_of(
            {
                "w0": ((2, 3), "_ a"),
                "mean": ((3,), "a"),
                "var": ((3,), "a"),
                "gain": ((3,), "a"),
                "shift": ((3,), "a"),
                "w1": ((3, 2), "a _"),
            },
            Scale("in", "a", (Term("w0", 1), Term("mean", 0), Term("var", 0, 2, offset=0.1)), 3),
            Scale("by gain", "a", (Term("w0", 1), Term("mean", 0), Term("gain", 0, -1)), 3),
            Scale("out", "a", (Term("gain", 0), Term("shift", 0), Term("w1", 0, -1)), 3),
            Sign("flip", "a", (Term("w0", 1), Term("mean", 0), Term("gain", 0)), 3),
        ),
        "residual": spec_of(
            {
                "e": ((2, 4), "_ d"),
                "u": ((4, 3), "d m"),
                "v": ((3, 4), "m d"),
                "o": ((4, 2), "d _"),
            },
            Scale("d*", "d", (Term("e", 1), Term("v", 1), Term("u", 0, -1), Term("o", 0, -1)), 4),
            Sign("m-", "m", (Term("u", 1), Term("v", 0)), 3),
        ),
        "scanned": spec_of(
            {
                "e": ((2, 4), "_ d"),
                "u": ((3, 4, 2), "_L d m[_L]"),
                "v": ((3, 2, 4), "_L m[_L] d"),
            },
            Scale("m*", "m", (Term("u", 2, 1, (0,)), Term("v", 1, -1, (0,))), 2, ("_L",), (3,)),
        ),
        "recurrent": spec_of(
            {"x": ((2, 3), "_ h"), "h": ((3, 3), "h h"), "o": ((3, 2), "h _")},
            Sign("h-", "h", (Term("x", 1), Term("h", 0), Term("h", 1), Term("o", 0)), 3),
        ),
        "packed gate": spec_of(
            {"w": ((2, 2, 3), "_ _ h"), "v": ((3, 2), "h _")},
            Scale("h*", "h", (Term("w", 2, part=((1, 0),)), Term("v", 0, -1)), 3),
            Sign("h-", "h", (Term("w", 2, part=((1, 0),)), Term("v", 0)), 3),
        ),
        "fixed units": spec_of(
            {"w": ((2, 3), "_ _"), "b": ((3,), "_"), "v": ((3, 4), "_ k"), "u": ((4, 2), "k _")},
            Scale("f*", None, (Term("w", 1), Term("b", 0), Term("v", 0, -1)), 3),
            Sign("k-", "k", (Term("v", 1), Term("u", 0)), 4),
        ),
    }


SPECS = specs()
"""Between them: every exponent, offsets, carries, parts, units over layers, several groups of one unit."""


def draw(spec: symmetry.Spec, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    out = {leaf.path: random.normal(size=leaf.shape) for leaf in spec.leaves}
    return {name: np.abs(x) + 0.1 if name in ("var", "v2") else x for name, x in out.items()}


def stack(trees: list) -> Any:
    return jax.tree.map(lambda *x: jnp.asarray(np.stack(x)), *trees)


def distance(a: Any, b: Any) -> float:
    pairs = zip(*map(jax.tree.leaves, (a, b)), strict=True)
    return max(float(np.max(np.abs(np.asarray(x) - np.asarray(y)), initial=0)) for x, y in pairs)


def measure(
    method: str,
    spec: symmetry.Spec,
    kinds: tuple[str, ...] = KINDS,
    change: Callable[[Any], Any] = lambda trunk: trunk,
    layers: int = 2,
    **options: Any,
) -> tuple[list[float], list[float], list[float]]:
    """Errors of answers and of edits relative to their spread over networks, and these spreads."""
    options = {"dtype": jnp.float64, **options}
    net = Metanetwork(spec, 3, layers, 2, key=quick_random.key(0), method=method, **options)
    edit = Editor(spec, 3, layers, key=quick_random.key(1), method=method, **options)
    net = eqx.tree_at(lambda n: n.trunk, net, change(net.trunk))
    one, other = draw(spec, 0), draw(spec, 1)
    elements = [spec.sample(quick_random.key(10 + k), kinds) for k in range(2)]
    moved = quickly(lambda p: [spec.act(g, p) for g in elements])

    def run(params):
        x = net.trunk(spec.blocks(params))
        return net.head(net.pool(x)), spec.unblocks(edit.readout(x), like=params)

    program = quickly(lambda p: jax.lax.map(run, p))
    answers, edits = jax.tree.map(np.asarray, program(stack([one, other, *moved(one)])))

    def member(tree, n):
        return jax.tree.map(lambda x: x[n], tree)

    expected = moved(member(edits, 0))
    spreads = [distance(member(t, 0), member(t, 1)) for t in (answers, edits)]
    return (
        [distance(member(answers, 0), member(answers, 2 + n)) / spreads[0] for n in range(2)],
        [distance(member(edits, 2 + n), expected[n]) / spreads[1] for n in range(2)],
        spreads,
    )


def check(method: str, spec: symmetry.Spec, **options: Any) -> None:
    """Both laws hold, and neither because nothing varies."""
    invariance, equivariance, spreads = measure(method, spec, **options)
    assert min(spreads) > 1e-3, spreads
    assert max(invariance) <= KEPT and max(equivariance) <= KEPT, (invariance, equivariance)


# ---------------------------------------------------------------------------------- for inference
def normal(seed: int, **shapes: tuple[int, ...]) -> dict[str, jax.Array]:
    random = np.random.default_rng(seed)
    return {name: jnp.asarray(random.normal(size=shape)) for name, shape in shapes.items()}


def mlp(activation: Callable) -> tuple:
    def fn(p, x):
        h = activation(activation(x @ p["w0"] + p["b0"]) @ p["w1"] + p["b1"])
        return h @ p["w2"] + p["b2"]

    shapes = {path: shape for path, (shape, _) in MLP.items()}
    return fn, normal(0, **shapes), normal(1, x=(8, 2))["x"]


def cnn() -> tuple:
    def conv(x, w):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=numbers)

    def fn(p, x):
        x = relu(conv(x, p["k0"]) + p["b0"])
        x = relu(conv(x, p["k1"]) + p["b1"])
        return x.mean((1, 2)) @ p["w"] + p["b"]

    p = normal(0, k0=(3, 3, 1, 3), b0=(3,), k1=(3, 3, 3, 4), b1=(4,), w=(4, 2), b=(2,))
    return fn, p, normal(1, x=(2, 4, 4, 1))["x"]


def batch_norm() -> tuple:
    def fn(p, x):
        x = (x @ p["w0"] - p["mean"]) * jax.lax.rsqrt(p["var"] + 1e-5) * p["gain"] + p["shift"]
        return relu(relu(x) @ p["w1"] + p["b1"]) @ p["w2"]

    p = normal(
        0, w0=(2, 3), mean=(3,), var=(3,), gain=(3,), shift=(3,), w1=(3, 4), b1=(4,), w2=(4, 2)
    )
    return fn, {**p, "var": jnp.abs(p["var"]) + 0.1}, normal(1, x=(8, 2))["x"]


def residual() -> tuple:
    def fn(p, x):
        x = x @ p["e"] + p["b"]
        x = x + jnp.tanh(relu(x) @ p["u"]) @ p["d"]
        return relu(x) @ p["o"]

    return fn, normal(0, e=(2, 4), b=(4,), u=(4, 3), d=(3, 4), o=(4, 2)), normal(1, x=(8, 2))["x"]


NETWORKS = {
    "relu": mlp(relu),
    "leaky": mlp(jax.nn.leaky_relu),
    "tanh": mlp(jnp.tanh),
    "siren": mlp(lambda x: jnp.sin(3 * x)),
    "sigmoid": mlp(jax.nn.sigmoid),
    "relu squared": mlp(lambda x: jnp.square(relu(x))),
    "gelu": mlp(jax.nn.gelu),
    "cnn": cnn(),
    "batch norm": batch_norm(),
    "residual": residual(),
}
"""What a spec is inferred from."""


def inferred(name: str) -> symmetry.Spec:
    fn, params, x = NETWORKS[name]
    return symmetry.infer(fn, params, x)

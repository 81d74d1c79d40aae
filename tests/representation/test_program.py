"""Programs stay small: what is traced grows at most in line with the number of leaves."""

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from wsljax import symmetry
from wsljax.representation import Features, UniversalLinear, structure

from .specs import spec_of

DEPTHS = (4, 8, 16, 32, 64)


def equations(fn, *args) -> int:
    """All equations of the traced program, those of inner programs included."""

    def count(jaxpr) -> int:
        total = 0
        for eqn in jaxpr.eqns:
            inner = [getattr(p, "jaxpr", p) for p in jax.tree.leaves(eqn.params, is_leaf=is_jaxpr)]
            total += 1 + sum(count(p) for p in inner if hasattr(p, "eqns"))
        return total

    def is_jaxpr(x) -> bool:
        return hasattr(x, "eqns") or hasattr(x, "jaxpr")

    closed = jax.make_jaxpr(fn)(*args)
    return count(getattr(closed, "jaxpr", closed))


def deep(depth: int, *, same: bool) -> symmetry.Spec:
    """An MLP of ``depth`` weight matrices, of one width or all of different widths."""
    width = (lambda k: 8) if same else (lambda k: 2 + k)
    leaves = {}
    for k in range(depth):
        leaves[f"layers/{k}/w"] = ((width(k), width(k + 1)), f"h{k} h{k + 1}")
        leaves[f"layers/{k}/b"] = ((width(k + 1),), f"h{k + 1}")
    return spec_of(leaves)


def transformer(depth: int) -> symmetry.Spec:
    leaves = {}
    for k in range(depth):
        for name in "qk":
            leaves[f"{k}/{name}"] = ((6, 2, 3), f"d h{k} q{k}[h{k}]")
        leaves[f"{k}/v"] = ((6, 2, 4), f"d h{k} v{k}[h{k}]")
        leaves[f"{k}/o"] = ((2, 4, 6), f"h{k} v{k}[h{k}] d")
        leaves[f"{k}/up"] = ((6, 8), f"d m{k}")
        leaves[f"{k}/down"] = ((8, 6), f"m{k} d")
        leaves[f"{k}/scale"] = ((6,), "d")
    return spec_of(leaves)


def traced(spec: symmetry.Spec) -> tuple[int, int]:
    """Equations of the layer on stacked features, and of its gradient."""
    layer = eqx.filter_eval_shape(UniversalLinear, spec, 4, 4, key=jax.random.key(0))
    shapes = {
        b.name: jax.ShapeDtypeStruct((*(spec.size_of(a) for a in b.labels), 4), jnp.float32)
        for b in structure(spec)
    }
    x = jax.eval_shape(lambda blocks: Features.of(structure(spec), blocks), shapes)
    arrays, rest = eqx.partition(layer, lambda a: isinstance(a, jax.ShapeDtypeStruct))

    def run(arrays, x):
        return eqx.combine(arrays, rest)(x)

    def loss(arrays, x):
        return sum(jnp.sum(a**2) for a in run(arrays, x).arrays)

    return equations(run, arrays, x), equations(jax.grad(loss, (0, 1)), arrays, x)


@pytest.mark.parametrize(
    "make", [lambda n: deep(n, same=True), transformer], ids=["mlp", "transformer"]
)
def test_repeated_layers_cost_nothing(make):
    """Small blocks of equal layers are stacked: the program is the same at every depth."""
    counts = [traced(make(n)) for n in DEPTHS[:4]]
    assert counts[1] == counts[2] == counts[3]
    assert counts[3][0] < 250


def test_unequal_layers_cost_in_line_with_their_number():
    counts = [traced(deep(n, same=False)) for n in DEPTHS]
    for forward in (0, 1):
        steps = [
            (b[forward] - a[forward]) / (m - n)
            for a, b, n, m in zip(counts[:-1], counts[1:], DEPTHS[:-1], DEPTHS[1:], strict=True)
        ]
        assert max(steps) <= 1.1 * min(steps)  # equations for each further layer
        assert max(steps) < (60, 200)[forward]


def test_large_blocks_are_not_copied_into_stacks(monkeypatch):
    """Above the limit every block is by itself, and the program grows with their number, no faster."""
    for module in ("blocks.features", "universal.products"):
        monkeypatch.setattr(f"wsljax.representation.{module}.STACK_UP_TO", 16)
    counts = [traced(deep(n, same=True))[0] for n in DEPTHS]
    steps = [
        (b - a) / (m - n)
        for a, b, n, m in zip(counts[:-1], counts[1:], DEPTHS[:-1], DEPTHS[1:], strict=True)
    ]
    assert 0 < max(steps) <= 1.1 * min(steps)

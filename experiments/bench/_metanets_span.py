"""Published linear layers as combinations of our basis maps, in float64.

`span_residual`: a published layer is linear in what comes in; what is left of its matrix after projection
on the span of ours, relative to the matrix. `span_rank`: the dimension of the span, ours and theirs.
`agreement`: with the weights that the projection gives, of 16 channels, both layers on the network's own
sizes: the largest difference relative to the largest output. References are the bounds to be kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench._metanets_cases import cases, numbered, plain
from experiments.bench._metanets_unf import authors_layers
from experiments.bench._metanets_worker import Worker
from wsljax import symmetry
from wsljax._compat import enable_x64
from wsljax.representation import UniversalLinear, structure

EXACT, SINGLE = 1e-10, 1e-5
CHANNELS = 16
CHAIN = ((2, 3), (3, 4), (4, 2))
"""The MLP whose layers are compared with torch: 31 weights, 114 maps with fixed ends."""
BESIDE = ("mlp 2-32-32-1", "cnn 1-16-16-16-10", "rnn 64", "gru 64")
"""The networks on which the universal layer is compared with its authors'."""

Line = tuple[str, str, float, float | None, str | None]


def lines(peers: Path | None, python: str, only: list[str] | None) -> Iterator[Line]:
    """Case, metric, figure, bound or figure of the other side, and what that is."""
    if peers is None:
        return
    with enable_x64():
        module = authors_layers(peers)
        for name in BESIDE if module is not None else ():
            if only is None or any(part in name for part in only):
                yield from beside_authors(module, name)
        if only is None or any(part in "mlp 2-3-4-2" for part in only):
            for peer, ends in (("nfn np", "free"), ("nfn hnp", "fixed"), ("dws dws", "fixed")):
                yield from beside_torch(peers, python, peer, ends)


def beside_authors(module: ModuleType | None, name: str) -> Iterator[Line]:
    """The authors' layer in the span of ours, and both with the same weights."""
    assert module is not None
    case = cases()[name]()
    spec, labels = plain(case)
    numbers = numbered(labels)
    small = _resized(labels, 4)
    layer = UniversalLinear(small, 1, 1, key=jax.random.key(0), drop_dependent=False)
    theirs = module.UNFLayer(1, 1)
    probes = _probes(small, _count(layer.weights))
    shapes = jax.eval_shape(lambda x: theirs.init(jax.random.PRNGKey(0), x, numbers), _one(probes))

    def our_outputs(weights: tuple) -> jax.Array:
        mine = eqx.tree_at(lambda m: (m.weights, m.bias), layer, weights)
        return jax.vmap(lambda x: _flat(mine(x)))(probes)

    def their_outputs(weights: Any) -> jax.Array:
        return jax.vmap(lambda x: _flat(theirs.apply(weights, x, numbers)))(probes)

    columns, _ = _columns(our_outputs, (layer.weights, layer.bias))
    wanted, order = _columns(their_outputs, shapes)
    change, *_ = np.linalg.lstsq(columns, wanted, rcond=None)
    residual = np.linalg.norm(wanted - columns @ change) / np.linalg.norm(wanted)
    label = f"{name}: authors' universal layer"
    yield label, "span_residual", float(residual), EXACT, "bound, float64"
    for dtype, bound in ((jnp.float64, EXACT), (jnp.float32, SINGLE)):
        apart = _apart(module, spec, numbers, np.round(change), order, dtype)
        yield label, "agreement", apart, bound, f"bound, {jnp.dtype(dtype).name}"


def _apart(
    module: ModuleType,
    spec: symmetry.Spec,
    numbers: Mapping[str, tuple[int, ...]],
    change: np.ndarray,
    order: list[tuple[str, int]],
    dtype: Any,
) -> float:
    """Both layers on the network's own sizes with the same random weights of 16 channels."""
    draw = np.random.default_rng(0)
    terms = draw.normal(size=(change.shape[1], CHANNELS, CHANNELS)) / CHANNELS
    constants = [n for n, (name, _) in enumerate(order) if "bias" in name]
    terms[constants, 1:] = 0  # a bias has no input channels
    own = np.einsum("ij,jab->iab", change, terms)
    layer = UniversalLinear(
        spec, CHANNELS, CHANNELS, key=jax.random.key(0), drop_dependent=False, dtype=dtype
    )
    weights, at = {}, 0
    roles = {role.name: role for role in layer.basis.roles}
    for name in sorted(layer.weights):  # in the order of the tree
        role = roles[name]
        shape = (len(role.members), role.reads, role.writes)
        piece = own[at : at + int(np.prod(shape))].reshape(*shape, CHANNELS, CHANNELS)
        at += int(np.prod(shape))
        piece = piece.transpose(0, 1, 3, 2, 4).reshape(layer.weights[name].shape)
        weights[name] = jnp.asarray(piece, dtype)
    bias = jnp.asarray(own[at:, 0].reshape(-1), dtype)
    layer = eqx.tree_at(lambda m: (m.weights, m.bias), layer, (weights, bias))
    found: dict[str, list] = {}
    for (name, _), term in zip(order, terms, strict=True):
        found.setdefault(name, []).append(term[0] if "bias" in name else term)
    theirs = {
        name: jnp.asarray(rows[0] if "bias" in name else np.stack(rows), dtype)
        for name, rows in found.items()
    }
    sizes = {name: tuple(map(spec.size_of, _labels(spec, name))) for name in numbers}
    x = {n: jnp.asarray(draw.normal(size=(*s, CHANNELS)), dtype) for n, s in sizes.items()}
    mine = eqx.filter_jit(layer)(x)
    other = jax.jit(
        lambda w, x: module.UNFLayer(CHANNELS, CHANNELS).apply({"params": w}, x, numbers)
    )(theirs, x)
    top = max(float(jnp.max(jnp.abs(y))) for y in other.values())
    return max(float(jnp.max(jnp.abs(mine[n] - other[n]))) for n in other) / top


def beside_torch(peers: Path, python: str, peer: str, ends: str) -> Iterator[Line]:
    """A published layer of torch on a small MLP, in the span of ours with its ends free or fixed."""
    ours = _matrices(ends)
    with Worker(
        python,
        peer=peer,
        peers=str(peers.resolve()),
        shapes=CHAIN,
        threads=1,
        matrix=len(ours) + 10,
    ) as worker:
        if "matrices" not in worker.answer:
            print(f"{peer}: left out, {worker.skipped}")
            return
        theirs = np.array(worker.answer["matrices"]).reshape(len(worker.answer["matrices"]), -1)
    basis, sizes, _ = np.linalg.svd(ours.T, full_matrices=False)
    basis = basis[:, sizes > 1e-9 * sizes[0]]
    left = theirs - theirs @ basis @ basis.T
    label = f"mlp 2-3-4-2: {peer} layer in the universal one, ends {ends}"
    residual = float(np.linalg.norm(left) / np.linalg.norm(theirs))
    yield label, "span_residual", residual, EXACT, "bound, float64"
    rank = float(np.linalg.matrix_rank(theirs, tol=1e-9 * np.linalg.norm(theirs, 2)))
    yield label, "span_rank", float(basis.shape[1]), rank, peer


def _matrices(ends: str) -> np.ndarray:
    """The matrices of all our basis maps on the small MLP, `(maps, weights * weights)`.

    With fixed ends every input and output coordinate is a block of its own: that is the exact group.
    """
    first, last = 0, len(CHAIN) - 1
    axes: dict[str, str] = {}
    cut: dict[str, Callable] = {}  # block -> its part of the kernels and biases
    for k, _ in enumerate(CHAIN):
        rows, cols = f"h{k}", f"h{k + 1}"
        if ends == "fixed" and k == first:
            for i in range(CHAIN[k][0]):
                axes[f"w{k}.{i}"], cut[f"w{k}.{i}"] = cols, lambda p, k=k, i=i: p[f"w{k}"][i]
        elif ends == "fixed" and k == last:
            for j in range(CHAIN[k][1]):
                axes[f"w{k}.{j}"], cut[f"w{k}.{j}"] = rows, lambda p, k=k, j=j: p[f"w{k}"][:, j]
                axes[f"b{k}.{j}"], cut[f"b{k}.{j}"] = "", lambda p, k=k, j=j: p[f"b{k}"][j]
        else:
            axes[f"w{k}"], cut[f"w{k}"] = f"{rows} {cols}", lambda p, k=k: p[f"w{k}"]
        if f"b{k}.0" not in axes:
            axes[f"b{k}"], cut[f"b{k}"] = cols, lambda p, k=k: p[f"b{k}"]
    kernels = {f"w{k}": jax.ShapeDtypeStruct(s, float) for k, s in enumerate(CHAIN)}
    biases = {f"b{k}": jax.ShapeDtypeStruct((s[1],), float) for k, s in enumerate(CHAIN)}
    whole = {**kernels, **biases}

    def blocks(flat: jax.Array) -> dict[str, jax.Array]:
        stops = np.cumsum([s.size for s in whole.values()])[:-1].tolist()
        parts = jnp.split(flat, stops)
        p = {n: v.reshape(s.shape) for (n, s), v in zip(whole.items(), parts, strict=True)}
        return {name: part(p) for name, part in cut.items()}

    count = sum(s.size for s in whole.values())
    places = blocks(jnp.arange(count))  # where each number of each block is in the flat vector
    spec = symmetry.parse(jax.eval_shape(blocks, jnp.zeros(count)), axes)
    layer = UniversalLinear(spec, 1, 1, key=jax.random.key(0), use_bias=False)

    def outputs(weights: Any) -> jax.Array:
        mine = eqx.tree_at(lambda m: m.weights, layer, weights)

        def apply(flat: jax.Array) -> jax.Array:
            y = mine({n: b[..., None] for n, b in blocks(flat).items()})
            out = jnp.zeros(count)
            for n, b in y.items():
                out = out.at[places[n].reshape(-1)].set(b.reshape(-1))
            return out

        return jax.vmap(apply)(jnp.eye(count)).T

    columns, _ = _columns(outputs, layer.weights)
    return columns.T


def _columns(outputs: Callable, weights: Any) -> tuple[np.ndarray, list[tuple[str, int]]]:
    """The outputs for each weight alone, side by side, and which weight each column is."""
    zeros = jax.tree.map(lambda a: jnp.zeros(a.shape), weights)
    jacobian = jax.jit(jax.jacfwd(outputs))(zeros)
    found = jax.tree_util.tree_flatten_with_path(jacobian)[0]
    sizes = [leaf.size for leaf in jax.tree.leaves(zeros)]
    columns = [np.asarray(j).reshape(-1, n) for (_, j), n in zip(found, sizes, strict=True)]
    order = [
        (str(getattr(path[-1], "key", path[-1])), k)
        for (path, _), n in zip(found, sizes, strict=True)
        for k in range(n)
    ]
    return np.concatenate(columns, axis=1), order


def _resized(labels: Mapping[str, tuple[str, ...]], most: int) -> symmetry.Spec:
    """The same labels with few coordinates: as many as maps can tell apart."""
    known = sorted({a for axes in labels.values() for a in axes})
    width = {a: max(2, *(2 * axes.count(a) for axes in labels.values())) for a in known}
    shapes = {
        n: jax.ShapeDtypeStruct(tuple(min(most, width[a]) for a in axes), jnp.float64)
        for n, axes in labels.items()
    }
    return symmetry.parse(shapes, {n: " ".join(axes) for n, axes in labels.items()})


def _probes(spec: symmetry.Spec, maps: int) -> dict[str, jax.Array]:
    """Random inputs, enough of them to tell all maps apart."""
    blocks = structure(spec)
    sizes = {b.name: tuple(spec.size_of(a) for a in b.labels) for b in blocks}
    number = 3 + 2 * maps // sum(int(np.prod(s)) for s in sizes.values())
    draw = np.random.default_rng(0)
    return {n: jnp.asarray(draw.normal(size=(number, *s, 1))) for n, s in sizes.items()}


def _labels(spec: symmetry.Spec, name: str) -> tuple[str, ...]:
    return next(b.labels for b in structure(spec) if b.name == name)


def _one(batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    return {name: x[0] for name, x in batch.items()}


def _flat(blocks: Mapping[str, jax.Array]) -> jax.Array:
    return jnp.concatenate([blocks[name].reshape(-1) for name in sorted(blocks)])


def _count(weights: Any) -> int:
    return sum(a.size for a in jax.tree.leaves(weights))

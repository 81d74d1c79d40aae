"""One encoder over radiance fields of three architectures, with specs inferred from their functions."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.architectures import quick_random
from tests.architectures.registry import quickly
from wsljax import symmetry, train
from wsljax.representation import Editor, Metanetwork
from wsljax.representation.graph_batch.batch import batch_graphs, split_batch
from wsljax.representation.graph_batch.lay import plan_of
from wsljax.representation.graph_batch.parameter_graph import (
    parameter_graph,
    weights_of,
)
from wsljax.representation.graph_batch.population import HeterogeneousPopulation
from wsljax.representation.methods.graph_metanetwork import edit_batch
from wsljax.representation.methods.nerf_encoder import TABLE_SIZES, NerfEncoder
from wsljax.zoo import Population

POINTS = np.random.default_rng(0).uniform(-0.9, 0.9, (5, 3))


def mlp(layers: list, x: jax.Array) -> jax.Array:
    for layer in layers[:-1]:
        x = jax.nn.relu(x @ layer["w"] + layer["b"])
    return x @ layers[-1]["w"] + layers[-1]["b"]


def plain_field(params: Any, x: jax.Array) -> jax.Array:
    """Colour and density at points ``(n, 3)``, by an MLP of sinusoids."""
    turns = (x[:, :, None] * 2.0 ** jnp.arange(2)).reshape(len(x), -1)
    return mlp(params, jnp.concatenate([x, jnp.sin(turns), jnp.cos(turns)], -1))


def tri_plane(params: Any, x: jax.Array) -> jax.Array:
    """By an MLP of the sum of three feature planes, each read at four pixels."""
    size = params["planes"].shape[-1]
    features = jnp.zeros(())
    for plane, axes in zip(params["planes"], ((0, 1), (0, 2), (1, 2)), strict=True):
        at = (x[:, axes] + 1) / 2 * (size - 1)
        low = jnp.clip(jnp.floor(at).astype(jnp.int32), 0, size - 2)
        share = at - low
        for i, j in np.ndindex(2, 2):
            weight = jnp.prod(jnp.where(np.array([i, j]) == 1, share, 1 - share), -1)
            features = features + (weight * plane[:, low[:, 0] + i, low[:, 1] + j]).T
    return mlp(params["mlp"], features)


def hash_grid(params: Any, x: jax.Array) -> jax.Array:
    """By an MLP of what hash tables of several resolutions have at the eight corners around a point."""
    features = []
    for level, table in enumerate(params["table"]):
        at = (x + 1) * 2 * 2.0**level
        low = jnp.floor(at).astype(jnp.uint32)
        share, found = at - low, jnp.zeros(())
        for corner in np.ndindex(2, 2, 2):
            place = (low + np.array(corner, np.uint32)) * np.array([1, 2654435761, 805459861], np.uint32)  # fmt: skip
            row = (place[:, 0] ^ place[:, 1] ^ place[:, 2]) % np.uint32(len(table))
            weight = jnp.prod(jnp.where(np.array(corner) == 1, share, 1 - share), -1)
            found = found + weight[:, None] * table[row]
        features.append(found)
    return mlp(params["mlp"], jnp.concatenate(features, -1))


def layers_of(rng: np.random.Generator, *sizes: int) -> list:
    pairs = zip(sizes[:-1], sizes[1:], strict=True)
    return [{"w": rng.normal(size=(a, b)), "b": rng.normal(size=b)} for a, b in pairs]


def fields(rng: np.random.Generator, pixels: int = 12, rows: int = 256) -> list:
    planes, table = rng.normal(size=(3, 4, pixels, pixels)), rng.normal(size=(2, rows, 3))
    return [
        (plain_field, layers_of(rng, 15, 8, 8, 4)),
        (tri_plane, {"planes": planes, "mlp": layers_of(rng, 4, 8, 4)}),
        (hash_grid, {"table": table, "mlp": layers_of(rng, 6, 8, 4)}),
    ]


def spec_of(fn: Any, params: Any) -> symmetry.Spec:
    return symmetry.infer(fn, params, POINTS, kinds=("permutation",))


def distance(a: Any, b: Any) -> float:
    pairs = zip(*map(jax.tree.leaves, (a, b)), strict=True)
    return max(float(jnp.max(jnp.abs(x - y))) for x, y in pairs)


def test_tables_come_out_of_the_function():
    """Channels of planes and tables are units, shared with the first layer; entries are in chunks."""
    found = [spec_of(*f) for f in fields(np.random.default_rng(0))]
    plane = found[1].axes
    channels = plane["mlp/0/w"].split()[0]
    assert [a.startswith("_") for a in plane["planes"].split()] == [True, False, True, True]
    assert plane["planes"].split()[1] == channels
    table = {b.name: b for b in found[2].layout if b.path == "table"}
    first = {b.name: b for b in found[2].layout if b.path == "mlp/0/w"}
    assert [b.axes[-1] for b in table.values()] == [b.axes[0] for b in first.values()]
    for spec, tables in zip(found, ((), ("planes",), ("table#0", "table#1")), strict=True):
        plan = plan_of(spec, TABLE_SIZES)
        assert tuple(p.name for p in plan.pieces if p.chunked) == tables
    assert plan_of(found[1], TABLE_SIZES).nodes == 4 + 8 + 4 + 1 + 2 + 1  # units, outputs, blocks


def test_one_encoder_for_all_architectures():
    """Embeddings of a mixed batch: invariant, different for different weights, as one by one."""
    rng = np.random.default_rng(1)
    one, two = fields(rng), fields(rng)
    specs = [spec_of(*f) for f in one]
    encoder = NerfEncoder(specs[0], 4, 2, 6, key=quick_random.key(0), dtype=jnp.float64)
    editor = Editor(
        specs[0], 4, 1, key=quick_random.key(1), method="nerf_encoder", dtype=jnp.float64
    )

    plans = [plan_of(s, TABLE_SIZES) for s in specs]

    @quickly
    def run(weights):
        pairs = zip(specs, weights, strict=True)
        graph = batch_graphs([parameter_graph(s, p, TABLE_SIZES) for s, p in pairs])
        edits = split_batch(edit_batch(editor, graph), plans)
        pairs = zip(edits, specs, strict=True)
        return encoder.each(graph), [weights_of(x, s, sizes=TABLE_SIZES) for x, s in pairs]

    @quickly
    def move(weights):
        pairs = zip(specs, weights, strict=True)
        return [s.act(s.sample(quick_random.key(5)), p) for s, p in pairs]

    weights = [p for _, p in one]
    a, edits = run(weights)
    b, moved_edits = run(move(weights))
    c, far_edits = run([p for _, p in two])
    expected = move(edits)
    assert jnp.allclose(jnp.sum(a**2, -1), 1)
    for k in range(3):
        spread = distance(a[k], c[k])
        assert spread > 1e-4 and distance(a[k], b[k]) <= 1e-10 * spread
        assert jax.tree.map(jnp.shape, edits[k]) == jax.tree.map(jnp.shape, weights[k])
        assert distance(expected[k], edits[k]) > 1e-2
        assert distance(expected[k], moved_edits[k]) < 1e-10 * distance(edits[k], far_edits[k])
    alone = quickly(lambda p: encoder(p, specs[2]))(weights[2])
    assert distance(alone, a[2]) < 1e-12
    # entries of a table stand for themselves, pixels too
    for k, name in ((1, "planes"), (2, "table")):
        rolled = {**weights[k], name: np.roll(weights[k][name], 1, axis=-1 if k == 1 else 1)}
        other = run([*weights[:k], rolled, *weights[k + 1 :]])[0][k]
        assert distance(other, a[k]) > 1e-4 * distance(a[k], c[k])


def test_a_large_table_takes_memory_in_proportion():
    """Bytes of a compiled forward and backward pass for four times the entries; nodes do not grow."""
    used, plans = [], []
    for rows in (1 << 12, 1 << 14):
        fn, params = fields(np.random.default_rng(0), rows=rows)[2]
        spec = spec_of(fn, params)
        plans.append(plan_of(spec, TABLE_SIZES))
        net = eqx.filter_eval_shape(
            Metanetwork, spec, 8, 2, 1, key=quick_random.key(0), method="nerf_encoder"
        )
        arrays, rest = eqx.partition(net, lambda x: isinstance(x, jax.ShapeDtypeStruct))
        like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, jnp.float32), params)

        def loss(arrays: Any, params: Any, rest: Any = rest) -> jax.Array:
            return eqx.combine(arrays, rest)(params)[0]

        compiled = quickly(jax.grad(loss)).lower(arrays, like).compile()
        used.append(compiled.memory_analysis().temp_size_in_bytes)
    assert plans[0].nodes == plans[1].nodes == plans[1].topology.node_graph.size < 40
    assert plans[1].edges < 6 * (1 << 14) / TABLE_SIZES.chunk + 200
    assert used[1] < 4.4 * used[0], used
    assert used[1] < 100 * 4 * 6 * (1 << 14), used  # bytes for each weight: under a hundred floats


@pytest.mark.slow
def test_embeddings_of_one_scene_meet_across_architectures():
    """Trained on pairs without labels; scenes that were not seen are found among the others."""
    rng = np.random.default_rng(2)
    scenes, held_out = 128, 16
    populations = []
    shown = rng.normal(size=(scenes, 1)).astype(np.float32)  # what a scene shows: how bright it is
    for fn, params in fields(rng, pixels=6, rows=64)[::2]:
        spec = spec_of(fn, params)
        params = jax.tree.map(
            lambda x: (0.3 * rng.normal(size=(scenes, *x.shape))).astype(np.float32), params
        )
        last = params[-1] if isinstance(params, list) else params["mlp"][-1]
        last["b"] = last["b"] * 0.1 + shown
        populations.append(Population(params, {"scene": np.arange(scenes)}, spec))
    networks = HeterogeneousPopulation(populations, sizes=TABLE_SIZES)
    encoder = NerfEncoder(populations[0].spec, 8, 1, 8, key=quick_random.key(0))
    optimiser = optax.adam(1e-2)

    def embed(encoder, graph):
        both = encoder.each(graph)
        return both[: len(both) // 2], both[len(both) // 2 :]

    def loss(encoder, batch, *, key):
        return encoder.loss(*embed(encoder, batch.graph))

    step = quickly(train.make_step(loss, encoder, optimiser))
    state, losses = train.init_state(encoder, optimiser), []
    for k in range(220):
        seen = np.random.default_rng(k).permutation(scenes - held_out)[:16]
        batch = networks.pack(np.concatenate([seen, scenes + seen]))
        state, metrics = step(state, batch, quick_random.key(0))
        losses.append(float(metrics["loss"]))
    new = np.arange(scenes - held_out, scenes)
    graph = networks.pack(np.concatenate([new, scenes + new])).graph
    a, b = quickly(lambda params: embed(eqx.combine(params, encoder), graph))(state.params)
    order = np.argsort(-np.asarray(a @ b.T), axis=1)
    place = np.argmax(order == np.arange(held_out)[:, None], axis=1)
    assert np.mean(losses[-20:]) < 3.2  # all embeddings alike: 3.74
    assert np.mean(place < 3) >= 0.6, place  # measured 0.94; by chance 3 of 16


def test_bad_input_is_named():
    rng = np.random.default_rng(0)
    fn, params = fields(rng)[0]
    spec = spec_of(fn, params)
    encoder = NerfEncoder(spec, 4, 1, 4, key=quick_random.key(0))
    with pytest.raises(ValueError, match="expected \\(edges, 1\\) and \\(edges, 32, 1\\)"):
        encoder.each(parameter_graph(spec, params))

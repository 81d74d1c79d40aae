"""Graph metanetworks: networks of any architectures in one batch, under one program, in float64."""

import functools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.architectures import quick_random, registry
from tests.architectures.registry import quickly
from tests.representation.specs import SPECS, spec_of
from wsljax import symmetry, train
from wsljax.representation import Editor, Metanetwork
from wsljax.representation.graph_batch.batch import Budget, batch_graphs, round_up, split_batch
from wsljax.representation.graph_batch.describe import EDGE_KINDS
from wsljax.representation.graph_batch.lay import plan_of
from wsljax.representation.graph_batch.parameter_graph import (
    ParameterGraph,
    parameter_graph,
    put,
    take,
    weights_of,
)
from wsljax.representation.graph_batch.plan import Plan, Sizes
from wsljax.representation.graph_batch.population import GROWTH, HeterogeneousPopulation
from wsljax.representation.methods.graph_metanetwork import answer_batch, edit_batch
from wsljax.zoo import Population

KEPT = 1e-10
CASES = registry.load()
MIXED = (
    "raw/mlp_dict",
    "raw/conv_flatten_nhwc",
    "linen/resnet_groupnorm",
    "nnx/gru",
    "linen/transformer_pre_norm",
)
REST = sorted(set(CASES) - set(MIXED))
OTHERS = [tuple(REST[k : k + 24]) for k in range(0, len(REST), 24)]


class Network(NamedTuple):
    """An architecture: its spec, its graph, and what a group element makes of values on edges."""

    spec: symmetry.Spec
    plan: Plan
    params: Any
    moved: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


def network(name: str) -> Network | None:
    case = CASES[name]
    with jax.enable_x64(False):
        fn, params, inputs = case.build(quick_random.key(0))
    if not all(jnp.issubdtype(jnp.result_type(x), jnp.number) for x in jax.tree.leaves(params)):
        return None  # random keys among the weights
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="no rule for", category=UserWarning)
        with jax.enable_x64(False):
            spec = symmetry.infer(fn, params, *inputs, kinds=("permutation",), **case.infer_kwargs)
    return network_of(spec, params)


def network_of(spec: symmetry.Spec, params: Any) -> Network:
    plan = plan_of(spec)

    @quickly
    def moved(values: jax.Array, chunks: jax.Array) -> tuple[jax.Array, jax.Array]:
        weights = spec.unblocks(take(plan, values[:, 0], chunks[..., 0]), like=params)
        out = put(plan, spec.blocks(spec.act(spec.sample(quick_random.key(3)), weights)))
        return out.values, out.chunks

    return Network(spec, plan, params, moved)


def noise(spec: symmetry.Spec, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {x.path: rng.normal(size=x.shape) for x in spec.leaves}


def draw(plan: Plan, rng: np.random.Generator) -> ParameterGraph:
    """Random weights on the edges of one network, zeros on edges that carry none."""
    out = [np.zeros((plan.scalars, 1)), np.zeros((plan.edges - plan.scalars, plan.sizes.chunk, 1))]
    for p in plan.pieces:
        rows = out[p.chunked][p.start : p.stop]
        if p.chunked:
            flat = np.zeros((p.places, rows.size // p.places))
            flat[:, : p.positions] = rng.normal(size=(p.places, p.positions))
            rows[:] = flat.reshape(rows.shape)
        else:
            rows[:] = rng.normal(size=rows.shape)
    return ParameterGraph(out[0], out[1], plan.topology)


def distance(a: Any, b: Any) -> float:
    pairs = zip(*map(jax.tree.leaves, (a, b)), strict=True)
    return max(float(np.max(np.abs(x - y), initial=0)) for x, y in pairs)


def values_of(batch: ParameterGraph, plans: list[Plan]) -> list[tuple[Any, Any]]:
    return [(g.values, g.chunks) for g in split_batch(batch, plans)]


def weights_only(plan: Plan, values: Any, chunks: Any) -> list[np.ndarray]:
    """What carries a weight: other edges, and what fills up chunks, may hold anything after an edit."""
    blocks = {}
    for p in plan.pieces:
        rows = np.asarray((chunks if p.chunked else values)[p.start : p.stop]).reshape(p.places, -1)
        blocks[p.name] = rows[:, : p.positions]
    return list(blocks.values())


def check_mixed(names: tuple[str, ...]) -> None:
    """Invariance, equivariance and variation of all networks of one batch, by one program."""
    networks = [n for n in map(network, names) if n is not None]
    plans = [n.plan for n in networks]
    spec = networks[0].spec
    net = Metanetwork(
        spec, 4, 2, 2, key=quick_random.key(0), method="graph_metanetwork", dtype=jnp.float64
    )
    editor = Editor(
        spec, 4, 2, key=quick_random.key(1), method="graph_metanetwork", dtype=jnp.float64
    )
    run = quickly(lambda graph: (answer_batch(net, graph), edit_batch(editor, graph)))
    rng = np.random.default_rng(0)
    graphs, far = ([draw(p, rng) for p in plans] for _ in range(2))
    turned = [
        ParameterGraph(*map(np.asarray, n.moved(g.values, g.chunks)), g.topology)
        for n, g in zip(networks, graphs, strict=True)
    ]
    answers, edits = run(batch_graphs(graphs))
    moved_answers, moved_edits = run(batch_graphs(turned))
    far_answers, far_edits = run(batch_graphs(far))
    for k, n in enumerate(networks):
        spread = distance(answers[k], far_answers[k])
        assert spread > 1e-5, names[k]
        assert distance(answers[k], moved_answers[k]) <= KEPT * spread, names[k]
        of = [values_of(e, plans)[k] for e in (edits, moved_edits, far_edits)]
        edit, moved_edit, far_edit = (weights_only(n.plan, *e) for e in of)
        expected = weights_only(n.plan, *n.moved(*map(jnp.asarray, of[0])))
        assert distance(edit, far_edit) > 1e-2, names[k]
        assert distance(moved_edit, expected) <= KEPT * distance(edit, far_edit), names[k]


def test_mixed_architectures_in_one_batch():
    check_mixed(MIXED)


@pytest.mark.slow
@pytest.mark.parametrize("names", OTHERS, ids=lambda names: names[0])
def test_all_architectures_in_mixed_batches(names):
    check_mixed(names)


def test_a_batch_equals_one_by_one():
    """Answers, edits and gradients, with room to spare in the batch, and by the plain call."""
    networks = [n for n in map(network, ("nnx/gru", "raw/conv_flatten_nhwc")) if n]
    plans = [n.plan for n in networks]
    net = Metanetwork(
        networks[0].spec, 4, 2, 1, key=quick_random.key(0), method="graph_metanetwork", dtype=jnp.float64
    )  # fmt: skip
    arrays, rest = eqx.partition(net, eqx.is_inexact_array)
    rng = np.random.default_rng(0)
    graphs = [draw(p, rng) for p in plans]
    rates = jnp.array([1.0, -2.0])

    def total(arrays, values, graph, rates):
        graph = ParameterGraph(*values, graph.topology)
        answers = answer_batch(eqx.combine(arrays, rest), graph)[: len(rates), 0]
        return jnp.sum(jnp.sin(rates * answers)), answers

    run = quickly(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))
    room = Budget(700, 9000, 5, 900, 200, 3)
    both = batch_graphs(graphs, room)
    (_, answers), (grads, by_value) = run(arrays, (both.values, both.chunks), both, rates)
    sums = jax.tree.map(jnp.zeros_like, grads)
    for k, (n, g) in enumerate(zip(networks, graphs, strict=True)):
        only = jnp.where(jnp.arange(2) == 0, rates[k], 0.0)
        one = batch_graphs([g], room)
        (_, answer), (grad, own) = run(arrays, (one.values, one.chunks), one, only)
        assert abs(answer[0] - answers[k]) < 1e-12
        sums = jax.tree.map(jnp.add, sums, grad)
        split = split_batch(ParameterGraph(*by_value, both.topology), plans)[k]
        own = split_batch(ParameterGraph(*own, one.topology), [n.plan])[0]
        assert float(jnp.abs(own.values).max()) > 1e-5
        assert distance((split.values, split.chunks), (own.values, own.chunks)) < 1e-14
        params = weights_of(jax.tree.map(jnp.asarray, g), n.spec, like=n.params)
        plain = quickly(lambda p, spec=n.spec: net(p, spec))(params)
        assert abs(plain[0] - answers[k]) < 1e-12
    assert all(jnp.abs(g).max() > 0 for g in jax.tree.leaves(grads.trunk.layers))
    assert distance(sums, grads) < KEPT
    with pytest.raises(ValueError, match="do not fit: they need"):
        batch_graphs(graphs, room._replace(edges=10))


@pytest.mark.parametrize("name", SPECS)
def test_every_weight_is_one_edge(name):
    """Count, ends, and the way back; edges that carry no weight are memberships and incidences."""
    spec = spec_of(SPECS[name])
    plan, t = plan_of(spec), plan_of(spec).topology
    blocks = {p.name: np.arange(np.prod(p.shape)).reshape(p.shape) + 0.5 for p in plan.pieces}
    graph = put(plan, blocks)
    kinds = np.asarray(t.edge_rows)[:, : len(EDGE_KINDS)][t.edge_type].argmax(-1)
    weights = sum(p.stop - p.start for p in plan.pieces)
    assert weights == sum(np.prod(x.shape) for x in spec.leaves)
    carries = np.isin(kinds, [EDGE_KINDS.index(k) for k in ("kernel", "single", "hyper")])
    assert carries.sum() == weights and carries[:weights].all()
    assert (np.asarray(graph.values)[weights:] == 0).all()
    assert plan.edges <= 4 * weights + plan.nodes
    back = take(plan, *(np.asarray(x)[..., 0] for x in (graph.values, graph.chunks)))
    assert all((back[n] == x).all() for n, x in blocks.items())
    assert np.bincount(np.concatenate([t.senders, t.receivers]), minlength=plan.nodes)[1:].all()
    # a set of nodes counts one in the pool, and so does a block
    assert np.isclose(np.asarray(t.edge_shares)[:, 2][t.edge_type].sum(), 1)
    assert np.isclose(np.asarray(t.node_shares)[:, 2][t.node_type].sum(), 1)


def test_the_graph_of_a_small_network_by_hand():
    spec = spec_of({"k": ((2, 2, 1, 3), "_ _ _ c"), "b": ((3,), "c"), "w": ((3, 3), "c c")})
    plan, t = plan_of(spec), plan_of(spec).topology
    piece = {p.name: p for p in plan.pieces}
    at = {n: slice(p.start, p.stop) for n, p in piece.items()}
    assert (plan.nodes, plan.edges) == (1 + 3 + 1 + 1, 12 + 3 + 9)  # network, c, input, block b
    units = sorted(set(t.receivers[at["b"]]))
    assert len(units) == 3 and len(set(t.senders[at["b"]])) == 1
    assert sorted(set(t.receivers[at["k"]])) == units and len(set(t.senders[at["k"]])) == 1
    assert len(set(t.edge_type[at["k"]])) == 4  # parallel edges for the positions
    loops = t.senders[at["w"]] == t.receivers[at["w"]]
    assert loops.tolist() == np.eye(3, dtype=bool).reshape(-1).tolist()
    assert len(set(t.edge_type[at["w"]])) == 2  # the diagonal is a type of its own
    assert np.allclose(np.asarray(t.edge_shares)[t.edge_type[at["w"]], :2], 1 / 3)
    assert np.allclose(np.asarray(t.edge_shares)[t.edge_type[at["k"]], 0], 1 / 4)  # per receiver
    assert np.allclose(np.asarray(t.edge_shares)[t.edge_type[at["k"]], 1], 1 / 12)
    assert np.allclose(np.asarray(t.edge_shares)[t.edge_type[at["k"]], 3], 4**-0.5)  # fan-in


def test_chunks_lose_nothing():
    """Tables laid out in chunks: every value once, the rest zero; and edits come back as they went."""
    spec = spec_of({"t": ((5, 3, 7), "_ c _"), "w": ((3, 4), "c g"), "e": ((50, 4), "_ g")})
    sizes = Sizes(chunk=8, positions=4, ends=20)
    plan = plan_of(spec, sizes)
    assert {p.name: p.chunked for p in plan.pieces} == {"t": True, "w": False, "e": True}
    params = noise(spec, 0)
    graph = parameter_graph(spec, params, sizes)
    assert graph.chunks.shape == (3 * 5 + 4 * 7, 8, 1)
    assert int((graph.chunks != 0).sum()) == 5 * 3 * 7 + 50 * 4
    assert distance(weights_of(graph, spec, sizes=sizes), params) == 0
    assert plan.nodes == 3 + 4 + 2 + 1


def test_what_the_group_does_not_join_is_told_apart():
    """No symmetry more than the network has: leaves moved alone, blocks swapped, heads broken up."""
    spec = spec_of(SPECS["heads"])
    net = Metanetwork(
        spec, 8, 3, 1, key=quick_random.key(0), method="graph_metanetwork", dtype=jnp.float64
    )
    params, other = noise(spec, 1), noise(spec, 2)
    broken = {"swapped": {**params, "q": params["k"], "k": params["q"]}}
    for name in ("q", "v", "o"):
        for axis in range(3):
            broken[f"{name} {axis}"] = {**params, name: np.roll(params[name], 1, axis)}
    # the units of queries and keys go to other heads together, past their values
    across = np.array([3, 1, 2, 0, 4, 5])
    mix = {n: params[n].reshape(6, 6)[:, across].reshape(6, 2, 3) for n in ("q", "k")}
    broken["across heads"] = {**params, **mix}
    run = quickly(lambda p: answer_batch(net, parameter_graph(spec, p))[0, 0])
    answer = run(params)
    spread = abs(answer - run(other))
    assert spread > 1e-5
    for name, weights in broken.items():
        # three means lie between the queries of a head and its values, so it is little, but no rounding
        least = 1e-6 if name == "across heads" else 1e-4
        assert abs(run(weights) - answer) > least * spread, name


def test_order_of_scanned_layers_and_places_matter():
    spec = spec_of(SPECS["scanned"])
    net = Metanetwork(
        spec, 8, 2, 1, key=quick_random.key(0), method="graph_metanetwork", dtype=jnp.float64
    )
    params, other = noise(spec, 1), noise(spec, 2)
    run = quickly(lambda p: net(p)[0])
    spread = abs(run(params) - run(other))
    layers = {n: np.roll(x, 1, 0) if n != "e" else x for n, x in params.items()}
    rows = {**params, "e": np.roll(params["e"], 1, 0)}
    for turned in (layers, rows):
        assert abs(run(turned) - run(params)) > 1e-4 * spread


def test_no_weight_belongs_to_a_structure():
    shapes = [
        jax.tree.map(jnp.shape, eqx.filter(net, eqx.is_array))
        for net in (
            eqx.filter_eval_shape(
                Metanetwork, spec_of(SPECS[name]), 4, 2, 1, key=quick_random.key(0),
                method="graph_metanetwork",
            )
            for name in ("mlp", "scanned heads", "four times")
        )
    ]  # fmt: skip
    assert jax.tree.leaves(shapes[0]) == jax.tree.leaves(shapes[1]) == jax.tree.leaves(shapes[2])


def mlps(sizes: tuple[int, ...], models: int, seed: int) -> Population:
    """Random MLPs with a target that their weights decide."""
    rng = np.random.default_rng(seed)
    leaves, names = {}, "_abcdefg"
    for k, (a, b) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        out = "_" if k == len(sizes) - 2 else names[k + 1]
        leaves[f"w{k}"] = (a, b), f"{names[k]} {out}"
        leaves[f"b{k}"] = (b,), out
    spec = spec_of(leaves)
    params = {
        n: rng.normal(size=(models, *shape)).astype(np.float32) for n, (shape, _) in leaves.items()
    }
    shift = rng.normal(size=models).astype(np.float32)
    last = f"b{len(sizes) - 2}"
    params[last] = shift[:, None] + 0.1 * params[last]
    return Population(
        params, {"shift": shift, f"own{seed}": shift}, spec, labels={}, roles={"shift": "metric"}
    )


POPULATIONS = (((2, 5, 2), 30), ((2, 4, 4, 2), 30), ((3, 8, 1), 20))


@functools.cache
def populations() -> tuple[list[Population], HeterogeneousPopulation]:
    found = [mlps(s, n, k) for k, (s, n) in enumerate(POPULATIONS)]
    return found, HeterogeneousPopulation(found)


def test_batches_of_several_populations_compile_a_handful_of_programs_and_train():
    _, networks = populations()
    assert len(networks) == 80 and set(networks.columns) == {"shift"}
    net = Metanetwork(
        networks.plans[0].spec, 8, 2, 1, key=quick_random.key(0), method="graph_metanetwork"
    )
    traced = []

    def loss(net, batch, *, key):
        traced.append(batch.graph.values.shape)
        wrong = answer_batch(net, batch.graph)[:, 0] - batch.columns["shift"]
        return jnp.sum(batch.mask * wrong**2) / jnp.sum(batch.mask)

    optimiser = optax.adam(1e-2)
    step = quickly(train.make_step(loss, net, optimiser))
    state, losses, seen = train.init_state(net, optimiser), [], []
    for epoch in range(15):
        for batch in networks.batches(16, key=quick_random.key(epoch), drop_last=epoch < 14):
            assert batch.graph.values.dtype == np.float32
            state, metrics = step(state, batch, quick_random.key(0))
            losses.append(float(metrics["loss"]))
            if epoch == 14:
                seen += list(zip(batch.population[batch.mask], batch.row[batch.mask], strict=True))
    everyone = [(p, r) for p, (_, n) in enumerate(POPULATIONS) for r in range(n)]
    assert len(losses) == 75 and sorted(seen) == everyone
    assert np.mean(losses[-10:]) < 0.4 * np.mean(losses[:5])
    assert len(traced) == len(set(traced)) <= 3, set(traced)


def test_batches_go_through_fit_and_know_their_networks():
    found, networks = populations()
    batch = networks.pack([3, 79, 31], batch=4)
    assert batch.mask.tolist() == [True, True, True, False]
    assert batch.population.tolist()[:3] == [0, 2, 1] and batch.row.tolist()[:3] == [3, 19, 1]
    for k, (p, r) in enumerate(((0, 3), (2, 19), (1, 1))):
        own = split_batch(batch.graph, [networks.plans[p] for p in (0, 2, 1)])[k]
        expected = found[p][r]
        back = weights_of(jax.tree.map(jnp.asarray, own), networks.plans[p].spec)
        assert distance(back, expected) == 0
        assert batch.columns["shift"][k] == found[p].columns["shift"][r]
    net = Metanetwork(
        networks.plans[0].spec, 4, 1, 1, key=quick_random.key(0), method="graph_metanetwork"
    )

    def loss(net, batch, *, key):
        return jnp.mean((answer_batch(net, batch.graph)[:, 0] - batch.columns["shift"]) ** 2)

    result = train.fit(
        loss, net, networks.source(8), steps=6, batch_size=8, every=3,
        optimiser=optax.adam(1e-2), key=quick_random.key(0),
    )  # fmt: skip
    assert [row["step"] for row in result.history] == [3, 6]
    assert all(np.isfinite(row["loss"]) for row in result.history)
    with pytest.raises(ValueError, match="population 0 has no spec"):
        HeterogeneousPopulation([found[0].with_spec(None)])
    with pytest.raises(ValueError, match="`populations` is empty"):
        HeterogeneousPopulation([])
    with pytest.raises(IndexError, match="of 80 networks"):
        networks.pack([80])
    assert GROWTH > 1


def test_a_population_of_one_architecture_by_vmap():
    """No graph is built in the program: nodes and edges are constants, values are traced."""
    population = mlps((2, 5, 2), 6, 0)
    net = Metanetwork(population.spec, 4, 2, 1, key=quick_random.key(0), method="graph_metanetwork")
    networks = HeterogeneousPopulation([population])
    both = quickly(lambda params, graph: (jax.vmap(net)(params), answer_batch(net, graph)))
    by_vmap, by_batch = both(population.params, networks.pack(np.arange(6)).graph)
    assert distance(by_vmap, by_batch) < 1e-5
    assert float(jnp.std(by_vmap)) > 1e-4


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_dtype_of_a_batch_is_kept(dtype):
    spec = spec_of(SPECS["scanned"])
    net, edit = (
        Metanetwork(spec, 4, 1, 1, key=quick_random.key(0), method="graph_metanetwork"),
        Editor(spec, 4, 1, key=quick_random.key(0), method="graph_metanetwork"),
    )
    graph = batch_graphs([draw(plan_of(spec), np.random.default_rng(0))] * 2)
    low = ParameterGraph(
        jnp.asarray(graph.values, dtype), jnp.asarray(graph.chunks, dtype), graph.topology
    )
    run = quickly(lambda g: (answer_batch(net, g), edit_batch(edit, g).values))
    out, exact = run(low), run(graph)
    assert {x.dtype for x in out} == {jnp.dtype(dtype)}
    bound = 1e-4 if dtype == jnp.float32 else 0.15  # measured: 4e-7 and 0.03
    assert distance([x.astype(jnp.float64) for x in out], exact) < bound


def test_memory_is_linear_in_the_weights():
    """Bytes of a compiled forward and backward pass: four times the weights, at most 4.4 times as many."""
    used = []
    for width in (48, 96):
        spec = spec_of({"w": ((width, width), "a b"), "v": ((width, width), "b c")})
        net = eqx.filter_eval_shape(
            Metanetwork, spec, 8, 2, 1, key=quick_random.key(0), method="graph_metanetwork"
        )
        like = {n: jax.ShapeDtypeStruct((width, width), jnp.float32) for n in ("w", "v")}
        arrays, rest = eqx.partition(net, lambda x: isinstance(x, jax.ShapeDtypeStruct))
        loss = lambda arrays, params, rest=rest: eqx.combine(arrays, rest)(params)[0]  # noqa: E731
        compiled = quickly(jax.grad(loss)).lower(arrays, like).compile()
        used.append(compiled.memory_analysis().temp_size_in_bytes)
    assert used[1] < 4.4 * used[0], used


def test_bad_input_is_named():
    spec = spec_of(SPECS["mlp"])
    net = Metanetwork(spec, 4, 1, 1, key=quick_random.key(0), method="graph_metanetwork")
    params = noise(spec, 0)
    with pytest.raises(ValueError, match="jax.vmap"):
        net.trunk({n: jnp.stack([x, x]) for n, x in spec.blocks(params).items()})
    with pytest.raises(ValueError, match="does not have: \\['nothing'\\]"):
        plan_of(spec, scales={"nothing": 1.0})
    with pytest.raises(ValueError, match="`layers` must be positive"):
        Metanetwork(spec, 4, 0, 1, key=quick_random.key(0), method="graph_metanetwork")
    with pytest.raises(ValueError, match="'mean' or 'root'"):
        Metanetwork(
            spec, 4, 1, 1, key=quick_random.key(0), method="graph_metanetwork", aggregate="max"
        )
    with pytest.raises(ValueError, match="expected \\(edges, 1\\) and \\(edges, 16, 1\\)"):
        net.trunk.read(parameter_graph(spec, params, Sizes(chunk=8)))
    with pytest.raises(ValueError, match="cannot be traced"):
        jax.jit(lambda g: batch_graphs([g]).values)(parameter_graph(spec, params))
    with pytest.raises(ValueError, match="`graphs` is empty"):
        batch_graphs([])
    with pytest.raises(ValueError, match="'k' has dtype key"):
        keys = spec_of({"w": ((3,), "h"), "k": ((), "")})
        parameter_graph(keys, {"w": jnp.ones(3), "k": quick_random.key(0)})
    assert max(round_up(n) / n for n in range(3, 5000)) <= 1.5

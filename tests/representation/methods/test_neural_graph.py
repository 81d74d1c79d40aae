"""Neural graphs: the graph of a spec, and message passing and attention on it.

That moving units moves features is tested for all methods in ``tests/representation/test_methods.py``.
Here: which arrays become nodes and edges, that a layer sends along each edge what the paper says, that
the program is dense and linear, and that positions by depth read networks of other depths.
"""

import warnings
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.architectures import quick_random, registry
from tests.architectures.registry import quickly
from tests.representation.specs import SPECS, params_of, spec_of
from wsljax import symmetry
from wsljax.representation import Editor, Metanetwork, build_trunk
from wsljax.representation.graph.derive import as_block, as_edges, graph_of, widths_of
from wsljax.representation.graph.layers import roles_of, statistics
from wsljax.representation.methods.ends import at_outputs
from wsljax.representation.methods.neural_graph import NeuralGraphLayer
from wsljax.representation.methods.neural_graph_transformer import CAP, RelationalAttentionLayer

METHODS = ("neural_graph", "neural_graph_transformer")


def mlp(*widths: int) -> symmetry.Spec:
    """A dense network with fixed ends."""
    leaves = {}
    units = ["_", *(f"h{n}" for n in range(len(widths) - 2)), "_"]
    for n, (a, b) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        leaves[f"layer_{n}/kernel"] = ((a, b), f"{units[n]} {units[n + 1]}")
        leaves[f"layer_{n}/bias"] = ((b,), units[n + 1])
    return spec_of(leaves)


def ends(spec: symmetry.Spec) -> dict[str, tuple]:
    graph = graph_of(spec)
    return {
        edge.name: tuple((graph.nodes[end.nodes].name, end.role) for end in edge.ends)
        for edge in graph.edges
    }


def inferred(name: str) -> symmetry.Spec:
    case = registry.load()[name]
    fn, params, inputs = case.build(quick_random.key(0))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="no rule for", category=UserWarning)
        return symmetry.infer(fn, params, *inputs, kinds=("permutation",), **case.infer_kwargs)


# -- the graph -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SPECS)
def test_blocks_are_edges_and_nothing_is_lost(name):
    spec = spec_of(SPECS[name])
    graph, widths = graph_of(spec), widths_of(graph_of(spec), spec)
    random = np.random.default_rng(0)
    blocks = {block.name: random.normal(size=block.shape) for block in spec.layout}
    assert {edge.name for edge in graph.edges} == set(blocks)
    for edge in graph.edges:
        block: Any = blocks[edge.name]
        x = as_edges(edge, block, block.ndim)
        assert x.shape == (*(widths[a] for a in edge.indices.labels), edge.features)
        np.testing.assert_array_equal(as_block(edge, x, block.shape), block)
        covered = {k for end in edge.ends for k in end.at}
        assert covered == set(range(len(edge.indices.labels))), "an axis without a node"
        for end in edge.ends:
            labels = tuple(edge.indices.labels[k] for k in end.at)
            assert labels == graph.nodes[end.nodes].labels


def test_fixed_ends_are_nodes_with_their_biases():
    found = ends(mlp(2, 5, 4, 3))
    assert found["layer_0/kernel"] == (("_inputs2", "source"), ("h0", "target"))
    assert found["layer_1/bias"] == (("h1", "self"),)
    assert found["layer_2/kernel"] == (("h1", "source"), ("_outputs3", "target"))
    assert found["layer_2/bias"] == (("_outputs3", "self"),)
    assert [n.depth for n in graph_of(mlp(2, 5, 4, 3)).nodes if n.name.startswith("h")] == [1, 2]


def test_kernel_positions_are_features_and_colours_are_nodes():
    graph = graph_of(spec_of(SPECS["flatten"]))
    features = {edge.name: edge.features for edge in graph.edges}
    assert features == {"b": 1, "k": 9, "w": 4}
    assert ends(spec_of(SPECS["flatten"]))["k"] == (("_inputs2", "source"), ("c", "target"))


def test_the_direction_is_told_by_the_biases():
    """Kernels stored (out, in): equinox and torch."""
    out_first = spec_of(
        {
            "0/weight": ((5, 2), "a _"),
            "0/bias": ((5,), "a"),
            "1/weight": ((4, 5), "b a"),
            "1/bias": ((4,), "b"),
            "2/weight": ((3, 4), "_ b"),
            "2/bias": ((3,), "_"),
        }
    )
    found = ends(out_first)
    assert found["0/weight"] == (("a", "target"), ("_inputs2", "source"))
    assert found["1/weight"] == (("b", "target"), ("a", "source"))
    assert found["2/weight"] == (("_outputs3", "target"), ("b", "source"))


def test_an_output_bias_is_at_the_outputs_where_inputs_are_as_many_and_names_have_no_folders():
    """In the graph and where layers cut the ends: by one rule."""
    leaves = {
        "b0": ((5,), "a"),
        "b1": ((3,), "_"),
        "w0": ((3, 5), "_ a"),
        "w1": ((5, 3), "a _"),
    }
    found = ends(spec_of(leaves))
    assert found["w0"] == (("_inputs3", "source"), ("a", "target"))
    assert found["b1"] == (("_outputs3", "self"),)
    assert at_outputs(spec_of(leaves)) == {"b1", "w1"}


def test_recurrent_shared_nested_and_scanned_units():
    assert ends(spec_of(SPECS["rnn"]))["w"] == (("h", "source"), ("h", "target"))
    assert [role for _, role in ends(spec_of(SPECS["thrice"]))["t"]] == [
        "0 of 3",
        "1 of 3",
        "2 of 3",
    ]
    heads = ends(spec_of(SPECS["heads"]))
    assert heads["q"] == (("d", "source"), ("q", "target"))  # not a third end for the heads
    scanned = graph_of(spec_of(SPECS["scanned"]))
    node = {n.name: n for n in scanned.nodes}
    assert node["m"].labels == ("_L", "m")
    assert [scanned.nodes[end.nodes].name for end in node["m"].above] == ["_L"]
    assert ends(spec_of(SPECS["width one"]))["s"] == (("", "self"),)  # a scalar is the network's


def test_a_residual_stream_is_one_node_set():
    spec = inferred("linen/resnet_groupnorm")
    graph = graph_of(spec)
    kernels = [edge for edge in graph.edges if edge.part == "kernel"]
    touching = [
        sum(n in [end.nodes for end in e.ends] for e in kernels) for n in range(len(graph.nodes))
    ]
    assert max(touching) >= 4, "the stream's nodes are shared by all blocks that use it"


# -- layers ----------------------------------------------------------------------------------------


class Small:
    """One layer on two kernels ``a b`` and ``b c`` and a bias of ``b``, and all that it sees."""

    def __init__(self, layer: type, **options: Any):
        spec = spec_of({"v": ((4, 2), "b c"), "w": ((3, 4), "a b"), "z": ((4,), "b")})
        trunk = build_trunk("neural_graph", spec, 4, 1, key=quick_random.key(0), dtype=jnp.float64)
        self.x = trunk.embed(spec.blocks(params_of(spec, quick_random.key(1))))
        self.layer = layer(self.x.graph, 4, key=quick_random.key(2), dtype=jnp.float64, **options)
        self.roles = list(roles_of(self.x.graph))
        self.nodes = {n: np.asarray(self.x.nodes[n]) for n in ("a", "b", "c")}
        self.edges = {e: np.asarray(self.x.edges[e]) for e in ("v", "w", "z")}
        self.out = quickly(lambda x: self.layer(x))(self.x)

    def of_role(self, part: int, parts: int, role: str) -> np.ndarray:
        """What nodes say in a role, as the matrix it is said with."""
        at = (parts * self.roles.index(role) + part) * 4
        return np.asarray(self.layer.says[:, at : at + 4])


def rms(x):
    return x / np.sqrt(np.mean(x**2, -1, keepdims=True) + 1e-6)


def gelu(x):
    return np.asarray(jax.nn.gelu(jnp.asarray(x)))


def test_messages_edge_by_edge():
    """What nodes ``b`` hear, and the update of ``w``, written out for every single edge."""
    s = Small(NeuralGraphLayer)
    layer, nodes = s.layer, {k: rms(x) for k, x in s.nodes.items()}

    def edge(weight, source, target):
        u = rms(weight) @ layer.meets["2"]
        u = u + source @ s.of_role(0, 2, "source") + target @ s.of_role(0, 2, "target")
        return np.split(gelu(u / 2**0.5) @ layer.modulates["2"], 3)

    network = rms(np.asarray(s.x.nodes[""]))
    heard = np.tile(network @ layer.says[:, -8:-4] @ layer.below, (4, 1))
    for j in range(4):
        forward, backward = [], []
        for i in range(3):
            scale, shift, update = edge(s.edges["w"][i, j], nodes["a"][i], nodes["b"][j])
            forward.append(shift + (1 + scale) * (nodes["a"][i] @ s.of_role(1, 2, "source")))
            np.testing.assert_allclose(
                s.out.edges["w"][i, j], s.edges["w"][i, j] + update, atol=1e-12
            )
        for k in range(2):
            scale, shift, _ = edge(s.edges["v"][j, k], nodes["b"][j], nodes["c"][k])
            backward.append(shift + (1 + scale) * (nodes["c"][k] @ s.of_role(1, 2, "target")))
        u = rms(s.edges["z"][j]) @ layer.meets["1"] + nodes["b"][j] @ s.of_role(0, 2, "self")
        _, own, _ = np.split(gelu(u) @ layer.modulates["1"], 3)
        for messages, role in ((forward, "target"), (backward, "source")):
            pooled = np.asarray(statistics(jnp.stack([jnp.asarray(m) for m in messages]), (0,)))
            heard[j] += pooled @ layer.hears[role] / 3**0.5
        heard[j] += own @ layer.hears["self"] / 3**0.5
    expected = s.nodes["b"] + gelu(nodes["b"] @ layer.inner + heard) @ layer.outer
    np.testing.assert_allclose(s.out.nodes["b"], expected, atol=1e-12)


def test_attention_is_one_softmax_over_all_neighbours():
    s = Small(RelationalAttentionLayer, heads=2)
    layer, nodes = s.layer, {k: rms(x) for k, x in s.nodes.items()}

    def neighbour(weight, count, own, role, other=None, other_role=""):
        key, scale, shift, _ = np.split(rms(weight) @ layer.meets[count], 4)
        value = shift
        if other is not None:
            key = key + other @ s.of_role(1, 4, other_role)
            value = shift + (1 + scale) * (other @ s.of_role(2, 4, other_role))
        query = own @ s.of_role(0, 4, role)
        logits = (query * key).reshape(2, 2).sum(-1) / 2**0.5
        return CAP * np.tanh(logits / CAP), value.reshape(2, 2)

    network = rms(np.asarray(s.x.nodes[""]))
    told = network @ s.layer.says[:, -8:-4] @ layer.below
    for j in range(4):
        own = nodes["b"][j]
        found = [neighbour(s.edges["z"][j], "1", own, "self")]
        for i in range(3):
            found.append(neighbour(s.edges["w"][i, j], "2", own, "target", nodes["a"][i], "source"))
        for k in range(2):
            found.append(neighbour(s.edges["v"][j, k], "2", own, "source", nodes["c"][k], "target"))
        logits, values = (np.stack(part) for part in zip(*found, strict=True))
        weights = np.exp(logits) / np.exp(logits).sum(0)
        a = s.nodes["b"][j] + told + (weights[..., None] * values).sum(0).reshape(4) @ layer.joins
        expected = a + gelu(rms(a) @ layer.inner) @ layer.outer
        np.testing.assert_allclose(s.out.nodes["b"][j], expected, atol=1e-12)


# -- programs --------------------------------------------------------------------------------------


def equations(jaxpr: Any) -> list[Any]:
    found = []
    for eqn in jaxpr.eqns:
        found.append(eqn)
        for value in eqn.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                found += equations(inner)
    return found


def traced(method: str, spec: symmetry.Spec, channels: int = 4, layers: int = 2, **options: Any):
    # shapes are all that is needed of the parameters
    made: list[Any] = []

    def draw(key):
        net = Editor(spec, channels, layers, key=key, method=method, **options)
        arrays, rest = eqx.partition(net, eqx.is_array)
        made.append(rest)
        return arrays

    arrays = jax.eval_shape(draw, jax.random.key(0))
    params = {leaf.path: jax.ShapeDtypeStruct(leaf.shape, jnp.float32) for leaf in spec.leaves}
    run = lambda a, p: eqx.combine(a, made[0])(p)  # noqa: E731
    return equations(jax.make_jaxpr(run)(arrays, params).jaxpr), arrays


@pytest.mark.parametrize("method", METHODS)
def test_dense_linear_programs(method):
    """No edge is looked up, no matrix of neurons by neurons, and twice the layers twice the program."""
    sizes = {}
    for depth in (4, 8, 16):
        spec = mlp(2, *([16] * depth), 3)
        found, _ = traced(method, spec)
        names = {eqn.primitive.name for eqn in found}
        assert not {n for n in names if n.startswith(("gather", "scatter", "sort", "while"))}
        weights = sum(int(np.prod(leaf.shape)) for leaf in spec.leaves)
        largest = max(int(np.prod(v.aval.shape)) for eqn in found for v in eqn.outvars)
        assert largest <= 4 * 4 * weights + 4096, "memory is linear in the number of weights"
        sizes[depth] = len(found)
    assert sizes[16] - sizes[8] <= 2.2 * (sizes[8] - sizes[4]), sizes
    assert sizes[16] < 2.5 * sizes[4], f"layers of one shape are stacked: {sizes}"
    deeper, _ = traced(method, mlp(2, 16, 16, 3), layers=12)
    assert len(deeper) == len(traced(method, mlp(2, 16, 16, 3), layers=2)[0]), "layers are scanned"


@pytest.mark.parametrize("method", METHODS)
def test_no_parameter_depends_on_a_width(method):
    def shapes(spec):
        return [x.shape for x in jax.tree.leaves(traced(method, spec)[1])]

    assert shapes(mlp(2, 3, 4, 1)) == shapes(mlp(2, 30, 17, 1))
    assert shapes(mlp(2, 3, 4, 1)) != shapes(mlp(2, 3, 4, 5)), "fixed ends have identities"


# -- depths, ends ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method",
    ["neural_graph", pytest.param("neural_graph_transformer", marks=pytest.mark.slow)],
)
def test_positions_by_depth_read_other_depths(method):
    own, other = mlp(2, 4, 3, 1), mlp(2, 5, 3, 6, 1)
    options = {"method": method, "positions": "depth", "dtype": jnp.float64}

    @quickly
    def run(params, moved):
        net = Metanetwork(own, 4, 2, 2, key=quick_random.key(0), **options)
        edit = Editor(own, 4, 2, key=quick_random.key(1), **options)
        return [(net(p, other), edit(p, other)) for p in (params, moved)] + [net(params, other)]

    params = params_of(other, quick_random.key(2))
    tree = jax.tree.unflatten(other.treedef, [params[leaf.path] for leaf in other.leaves])
    g = other.sample(quick_random.key(3))
    (answer, edits), (moved_answer, moved_edits), _ = run(tree, other.act(g, tree))
    np.testing.assert_allclose(moved_answer, answer, rtol=0, atol=1e-12)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-12),
        moved_edits,
        other.act(g, edits),
    )
    assert np.abs(edits["layer_1/kernel"]).max() > 1e-2
    biases = [edits[f"layer_{n}/bias"] for n in range(4)]
    assert len({round(float(b.mean()), 9) for b in biases}) == 4, "layers are told apart"


def test_learned_positions_refuse_other_structures_and_say_the_remedy():
    net = Metanetwork(mlp(2, 4, 1), 4, 1, 1, key=quick_random.key(0), method="neural_graph")
    other = mlp(2, 4, 4, 1)
    params = jax.tree.unflatten(other.treedef, [jnp.zeros(x.shape) for x in other.leaves])
    with pytest.raises(ValueError, match='positions="depth"'):
        net(params, other)
    by_depth = Metanetwork(
        mlp(2, 4, 1), 4, 1, 1, key=quick_random.key(0), method="neural_graph", positions="depth"
    )
    wide = mlp(3, 4, 1)
    params = jax.tree.unflatten(wide.treedef, [jnp.zeros(x.shape) for x in wide.leaves])
    with pytest.raises(ValueError, match="_inputs3"):
        by_depth(params, wide)


@pytest.mark.parametrize("method", METHODS)
def test_inputs_have_identities(method):
    """Exchanging input coordinates, or weights on a diagonal, changes the answer: neither is a symmetry."""
    spec = spec_of(SPECS["rnn"])

    @quickly
    def run(trees):
        net = Metanetwork(spec, 4, 2, 2, key=quick_random.key(0), method=method, dtype=jnp.float64)
        return jax.lax.map(net, trees)

    params = params_of(spec, quick_random.key(1))
    swapped = {**params, "x": params["x"][::-1]}
    # the same multiset in every row and column, but other weights on the diagonal
    circle = {**params, "w": jnp.eye(5), "x": jnp.ones((3, 5)), "b": jnp.ones(5)}
    rolled = {**circle, "w": jnp.roll(jnp.eye(5), 1, axis=0)}
    trees = jax.tree.map(lambda *x: jnp.stack(x), params, swapped, circle, rolled)
    answers = run(trees)
    assert np.abs(answers[0] - answers[1]).max() > 1e-3
    assert np.abs(answers[2] - answers[3]).max() > 1e-3


def test_heads_divide_the_channels():
    with pytest.raises(ValueError, match="multiple of `heads`"):
        build_trunk(METHODS[1], mlp(2, 3, 1), 6, 1, key=quick_random.key(0), heads=4)


def test_features_of_specs_are_read():
    """Several channels of weights side by side (gradients beside weights)."""
    spec = spec_of(SPECS["mlp"])
    trunk = build_trunk("neural_graph", spec, 4, 1, key=quick_random.key(0), c_in=3)
    blocks = {block.name: jnp.ones((*block.shape, 3)) for block in spec.layout}
    assert trunk.embed(blocks).edges["w1"].shape == (4, 5, 4)
    with pytest.raises(ValueError, match="jax.vmap"):
        trunk({name: x[None] for name, x in blocks.items()})

"""Published networks beside ours: what goes out to the other interpreter, what comes back, what is said."""

import argparse
import importlib.util
import json
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs._metanetworks import Training
from experiments._metanetworks import learn, peers, questions
from experiments._metanetworks.chain import chain_of, from_chain, to_chain
from experiments._metanetworks.learn import Part
from wsljax import symmetry, zoo

TRAINING = Training(steps=4, batch=4, every=2, seeds=2)
SIREN = zoo.Function("siren", {"widths": (2, 5, 4, 1), "frequency": 9.0, "offset": 0.5})
FAKE = """
    import json, sys
    import numpy as np

    what = json.loads(sys.stdin.readline())
    with open({calls!r}, "a") as f:
        f.write(what["peer"] + "\\n")
    if what["peer"] == "nfn nft":
        print(json.dumps({{"skipped": "no code for it"}}))
        sys.exit()
    data = np.load(what["data"])
    count = len([name for name in data.files if name.startswith("test/weights")])
    weights, biases = ([data[f"test/{{k}}/{{i}}"] for i in range(count)] for k in ("weights", "biases"))
    if what["kind"] == "classification":
        answers = [np.eye(what["out"])[data["test/targets"]]]
        answers[0][: 1] = -answers[0][: 1]  # one is wrong
    elif what["kind"] == "regression":
        answers = [np.where(data["test/tanh"], 1 - data["test/targets"], data["test/targets"])]
    else:
        answers = [*(2 * w for w in weights), *biases]
    np.savez(what["answers"], *answers)
    print(json.dumps({{"step": 2, "loss": 1.0}}))
    rate = what["training"]["learning_rate"]
    done = {{"parameters": 7, "seconds": 0.5, "history": [{{"step": 2}}], "learning_rate": rate}}
    print(json.dumps({{"done": done}}))
"""


@pytest.fixture(scope="module")
def sirens():
    """A spec, and three parts of sine networks with classes as targets."""
    draws = jax.vmap(lambda key: SIREN.init({}, key=key))
    spec = symmetry.infer(SIREN.apply, SIREN.init({}, key=jax.random.key(0)), jnp.zeros((3, 2)))
    parts = tuple(
        Part(draws(jax.random.split(jax.random.key(n), n)), np.arange(n) % 3) for n in (12, 6, 5)
    )
    return spec, parts


@pytest.fixture
def fake(tmp_path):
    """A process that answers without torch, and the file in which it says that it was called."""
    script, calls = tmp_path / "fake.py", tmp_path / "calls.txt"
    script.write_text(textwrap.dedent(FAKE.format(calls=str(calls))))
    for name in peers.REPOSITORIES.values():
        (tmp_path / name).mkdir()
    return peers.Peers(tmp_path, sys.executable, script=script), calls


def forward(weights, biases, x):
    for i, (w, b) in enumerate(zip(weights, biases)):
        x = x @ w + b
        x = np.tanh(x) if i < len(weights) - 1 else x
    return x


@pytest.mark.parametrize("order", ["jax", "torch"])
def test_layers_come_out_in_order_and_go_back(order):
    rng = np.random.default_rng(0)
    sizes, names = (4, 6, 5, 4), ("z", "m", "a")  # the tree's own order is the wrong one
    params, axes, function = {}, {}, []
    for i, name in enumerate(names):
        ends = ["_" if i == 0 else f"h{i - 1}", "_" if i == 2 else f"h{i}"]
        w = rng.normal(size=(3, *sizes[i : i + 2]))
        function.append(w)
        turned = order == "torch"
        params[name] = {
            "w": w.transpose(0, 2, 1) if turned else w,
            "b": rng.normal(size=(3, sizes[i + 1])),
        }
        axes[f"{name}/w"] = " ".join(ends[::-1] if turned else ends)
        axes[f"{name}/b"] = ends[1]
    if (
        order == "torch"
    ):  # with as many inputs as outputs either order is a chain; with kernels one is
        params["z"]["w"] = params["z"]["w"][..., None, None]
        axes["z/w"] += " _ _"
    one = jax.tree.map(lambda x: x[0], params)
    spec = symmetry.parse(one, axes)
    weights, biases = to_chain(spec, params)
    assert [w.shape[1:3] for w in weights] == list(zip(sizes[:-1], sizes[1:]))
    first = weights[0][..., 0, 0] if order == "torch" else weights[0]
    x = rng.normal(size=(7, 4))
    expected = forward([w[1] for w in function], [params[n]["b"][1] for n in names], x)
    found = forward([first[1], weights[1][1], weights[2][1]], [b[1] for b in biases], x)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    back = from_chain(spec, weights, biases, like=params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), back, params)


def test_kernels_of_convolutions_come_last():
    settings = {"input_shape": (8, 8, 1), "channels": (3, 5), "dense_widths": (4,)}
    cnn = zoo.Function("cnn", settings)
    params = cnn.init({}, key=jax.random.key(0))
    spec = symmetry.infer(cnn.apply, params, jnp.zeros((2, 8, 8, 1)), kinds=("permutation",))
    stacked = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), params)
    weights, biases = to_chain(spec, stacked)
    assert [w.shape for w in weights] == [(2, 1, 3, 3, 3), (2, 3, 5, 3, 3), (2, 5, 4)]
    assert [b.shape for b in biases] == [(2, 3), (2, 5), (2, 4)]
    np.testing.assert_array_equal(weights[1][0, 2, 4], params["conv_1"]["kernel"][:, :, 2, 4])
    back = from_chain(spec, weights, biases, like=stacked)
    jax.tree.map(np.testing.assert_array_equal, back, stacked)


@pytest.mark.parametrize(
    "axes",
    [
        {"a": "_ h", "b": "h", "c": "h h", "d": "h", "e": "h _", "f": "_"},  # recurrent
        {"a": "_ h", "b": "h", "c": "h _"},  # no bias of the last layer
        {"a": "_ h", "b": "h", "c": "h _", "d": "_", "e": "h"},  # a scale
    ],
)
def test_other_networks_are_refused(axes):
    sizes = {"_": 3, "h": 4}
    params = {k: np.zeros([sizes[a] for a in text.split()]) for k, text in axes.items()}
    with pytest.raises(ValueError, match="not that of a plain chain"):
        chain_of(symmetry.parse(params, axes))


def test_rows_are_trained_once_and_scored_as_ours(sirens, fake, tmp_path, capsys):
    spec, parts = sirens
    there, calls = fake
    question = questions.classification(learn.classification(3))
    one = there.trainer(spec, parts, question, TRAINING)
    rows = {"np": peers.Peer("nfn np"), "nft": peers.Peer("nfn nft")}
    file = tmp_path / "rows.jsonl"
    found = peers.run_peers(rows, 2, one, file, about={"networks": 23}, quiet=True)
    assert set(found) == {"np"} and "nft: left out, no code for it" in capsys.readouterr().err
    row = found["np"]
    assert row["scores"]["accuracy"] == {"mean": 0.8, "std": 0.0, "runs": [0.8, 0.8]}
    assert (row["parameters"], row["seconds"], row["seeds"]) == (7, 0.5, 2)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(line["row"], line["seed"]) for line in lines] == [("np", 0), ("np", 1)]
    assert lines[0]["tag"]["entry"]["channels"] == 16
    before = calls.read_text()
    again = peers.run_peers({"np": rows["np"]}, 2, one, file, about={"networks": 23}, quiet=True)
    assert again == found and calls.read_text() == before
    changed = {"np": peers.Peer("nfn np", rates=("own",))}
    peers.run_peers(changed, 1, one, file, about={"networks": 23}, quiet=True)
    assert calls.read_text() == before + "nfn np\n"


def test_edited_networks_come_back_as_ours(sirens, fake):
    spec, parts = sirens
    question, drawing = (
        questions.editing(SIREN, zoo.grid(3, 4)),
        questions.Drawing(SIREN, zoo.grid(3, 4)),
    )
    assert drawing.told() == {"frequencies": [9.0, 9.0], "offset": 0.5}
    parts = tuple(Part(p.params, drawing.drawn(p.params)[..., 0]) for p in parts)
    kept = []
    one = fake[0].trainer(spec, parts, question, TRAINING, keep=lambda *x: kept.append(x))
    row = one(peers.Peer("nfn hnp"), 3)
    peer, seed, answer = kept[0]
    twice = jax.tree.map_with_path(
        lambda path, x: 2 * x if path[-1].key == "kernel" else x, parts[2].params
    )
    assert (peer.peer, seed) == ("nfn hnp", 3)
    jax.tree.map(np.testing.assert_array_equal, answer, twice)
    expected = np.mean((drawing.drawn(twice)[..., 0] - parts[2].targets) ** 2)
    assert row["scores"]["mse"] == pytest.approx(float(expected)) and expected > 0


def test_accuracies_and_activations_go_out(sirens, fake):
    spec, parts = sirens
    rng = np.random.default_rng(0)
    parts = tuple(p._replace(targets=rng.uniform(size=len(p.targets)).astype("f4")) for p in parts)
    for odd, tau in ((np.zeros, 1.0), (np.ones, -1.0)):
        tanh = [odd(len(p.targets), bool) for p in parts]
        one = fake[0].trainer(spec, parts, questions.regression(), TRAINING, tanh=tanh)
        assert one(peers.Peer("scalegmn both"), 0)["scores"]["tau"] == pytest.approx(tau)


def test_numbers_are_scored_as_in_our_rows():
    guess, truth = np.random.default_rng(0).uniform(0.05, 0.95, size=(2, 30)).astype("f4")
    goal = learn.regression((0.3, 1.7))
    logits = (np.asarray(learn.logit(guess)) - 0.3) / 1.7
    ours, theirs = goal.score(logits[:, None], truth), questions.regression().score(guess, truth)
    assert ours.keys() == theirs.keys()
    np.testing.assert_allclose(list(ours.values()), list(theirs.values()), rtol=1e-4)


def test_a_drawing_must_be_that_of_the_networks(sirens):
    spec, parts = sirens
    slower = zoo.Function("siren", {**SIREN.settings, "frequency": 8.0})
    drawn = tuple(p._replace(targets=np.zeros((len(p.targets), 12))) for p in parts)
    arrays = peers.export(spec, drawn, questions.editing(SIREN, zoo.grid(3, 4)))
    assert arrays["test/targets"].shape == (5, 12, 1)
    assert arrays["points"].shape == (12, 2) and arrays["validation/weights/1"].shape == (6, 5, 4)
    drawing = questions.Drawing(slower, zoo.grid(3, 4))
    two = jax.tree.map(lambda x: x[:2], parts[0].params)
    drawing.check(two, *to_chain(spec, two))
    other = questions.Drawing(SIREN, zoo.grid(3, 4))
    with pytest.raises(ValueError, match="apart"):
        other.check(jax.tree.map(lambda x: 1.1 * x, two), *to_chain(spec, two))
    with pytest.raises(ValueError, match="published code edits sine networks"):
        questions.Drawing(zoo.Function("mlp", {"widths": (2, 3, 1)}), zoo.grid(2, 2)).told()


def test_activations_are_read_from_codes():
    columns = {"activation": np.array([0, 1, 1])}
    networks = zoo.Population(
        {"w": np.zeros((3, 2))}, columns, labels={"activation": ("relu", "tanh")}
    )
    assert questions.odd_activations(networks).tolist() == [False, True, True]
    with pytest.raises(ValueError, match="no column of activations"):
        questions.odd_activations(networks, "nothing")


def test_what_is_missing_is_named(sirens, fake, tmp_path, monkeypatch):
    spec, parts = sirens
    question = questions.classification(learn.classification(3))
    row = peers.Peer("dws dws")

    def start(there):
        return there.trainer(spec, parts, question, TRAINING)(row, 0)

    with pytest.raises(FileNotFoundError, match="checkout of `DWSNets`"):
        start(peers.Peers(tmp_path / "empty", sys.executable))
    with pytest.raises(FileNotFoundError, match="--torch-python .*nowhere"):
        start(fake[0]._replace(python=str(tmp_path / "nowhere")))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "without"))
    (tmp_path / "without").mkdir()
    (tmp_path / "without/torch.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'torch'\")"
    )
    with pytest.raises(RuntimeError, match="DWS could not be trained: .*No module named 'torch'"):
        start(fake[0]._replace(script=peers.SCRIPT))
    with pytest.raises(ValueError, match="peer 'dws': there are"):
        fake[0].check(peers.Peer("dws"))


def test_the_command_line_says_where_peers_are(tmp_path):
    parser = argparse.ArgumentParser()
    peers.add_arguments(parser)
    assert peers.from_arguments(parser.parse_args([])) is None
    found = peers.from_arguments(
        parser.parse_args(["--peers", str(tmp_path), "--peer-threads", "2"])
    )
    assert found == peers.Peers(tmp_path, sys.executable, 2)
    rows = peers.peer_rows("editing", channels=None, rates=("own",))
    assert {r.peer for r in rows.values()} == set(peers.NAMES) - {"nfn stat", "nfn nft"}
    assert {(r.channels, r.rates) for r in rows.values()} == {(None, ("own",))}


def test_rows_at_the_rate_of_the_repository():
    parser = argparse.ArgumentParser()
    peers.add_arguments(parser)
    assert parser.parse_args([]).peer_rates == ["study"]
    assert parser.parse_args(["--peer-rates", "study", "own"]).peer_rates == ["study", "own"]
    same, own = peers.peer_rows("classification"), peers.peer_rows("classification", "own")
    assert not set(same) & set(own) and [r.peer for r in same.values()] == [
        r.peer for r in own.values()
    ]
    assert {r.rates for r in same.values()} == {()} and {r.rates for r in own.values()} == {
        ("own",)
    }
    with pytest.raises(ValueError, match="rate 'mine': there are study, own"):
        peers.peer_rows("classification", "mine")


def test_rates_are_those_of_our_rows():
    recipe = _recipe()
    for steps in (3, 40, 1000):
        schedule = optax.warmup_cosine_decay_schedule(0.0, 2e-3, max(1, steps // 10), max(2, steps))
        ours = [float(schedule(i)) for i in range(0, steps, max(1, steps // 17))]
        theirs = [recipe.rate(i, steps, 2e-3) for i in range(0, steps, max(1, steps // 17))]
        np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-9)
    assert recipe.better(0.2, None, True) and recipe.better(0.1, 0.2, False)
    assert not recipe.better(float("nan"), None, True) and not recipe.better(0.1, 0.2, True)


def _recipe():
    file = peers.SCRIPT.parents[1] / "_peers/recipe.py"
    made = importlib.util.spec_from_file_location("recipe", file)
    module = importlib.util.module_from_spec(made)
    made.loader.exec_module(module)
    return module


MODELS = """
    import torch

    class DWSModelForClassification(torch.nn.Module):
        def __init__(self, weight_shapes, bias_shapes, hidden_dim, n_classes, **others):
            super().__init__()
            size = sum(a * b for a, b in weight_shapes) + sum(a for a, in bias_shapes)
            self.net = torch.nn.Linear(size, n_classes)

        def forward(self, x):
            return self.net(torch.cat([a.flatten(1) for leaves in x for a in leaves], 1))

    class DWSModel(torch.nn.Module):
        pass
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="the other side needs torch")
def test_the_other_side_trains(sirens, tmp_path):
    """The real process on a repository of one linear layer: it learns, and validation chooses."""
    for module, text in {"__init__": "", "models": MODELS}.items():
        place = tmp_path / "DWSNets/nn"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{module}.py").write_text(textwrap.dedent(text))
    spec, parts = sirens
    parts = tuple(  # the sign of one weight
        p._replace(targets=np.asarray(p.params["dense_0"]["kernel"][:, 0, 0] > 0, np.int32))
        for p in [Part(parts[0].params, None)] * 3
    )
    there = peers.Peers(tmp_path, sys.executable, threads=1)
    question = questions.classification(learn.classification(2))
    training = Training(steps=60, batch=6, every=20, learning_rate=1e-4)
    row = peers.Peer("dws dws", rates=(1e-9, "own"))
    found = there.trainer(spec, parts, question, training)(row, 0)
    assert found["scores"]["accuracy"] == 1.0
    assert found["learning_rate"] == 5e-3
    assert [t["learning_rate"] for t in found["tried"]] == [1e-9, 5e-3]
    assert [h["step"] for h in found["history"]] == [20, 40, 60]
    assert found["history"][-1]["loss"] < found["history"][0]["loss"]

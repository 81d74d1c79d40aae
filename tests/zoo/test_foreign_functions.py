"""What a reader says its networks compute, against plain numpy in the order of the files.

The references go by the authors' layouts (channels first, weights as written) and share nothing with
the library: a wrong padding, order of axes, residual or normalisation shows as another output.
"""

import math
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.zoo import foreign_files
from wsljax.zoo.foreign import read_foreign


def conv(x, weight, bias, stride=1, padding=0):
    """(n, in, h, w), weight (out, in, kh, kw); by definition."""
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    _, _, kh, kw = weight.shape
    high, wide = (x.shape[2] - kh) // stride + 1, (x.shape[3] - kw) // stride + 1
    out = np.zeros((len(x), len(weight), high, wide))
    for i in range(high):
        for j in range(wide):
            part = x[:, :, i * stride : i * stride + kh, j * stride : j * stride + kw]
            out[:, :, i, j] = np.tensordot(part, weight, ([1, 2, 3], [1, 2, 3]))
    return out + bias[:, None, None]


def max_pool(x):
    n, c, h, w = x.shape
    return x[:, :, : h // 2 * 2, : w // 2 * 2].reshape(n, c, h // 2, 2, w // 2, 2).max((3, 5))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "gelu": lambda x: 0.5 * x * (1 + np.vectorize(math.erf)(x / np.sqrt(2))),
    "none": lambda x: x,
}


def double(state):
    return {name: np.asarray(value, np.float64) for name, value in state.items()}


_RAN: dict[int, tuple] = {}


def agree(population, row, x, expected, tolerance=1e-5):
    if _RAN.get(0, (None,))[0] is not population:  # all rows at once, and once
        ran = jax.jit(population.function.apply_all)
        _RAN[0] = population, ran(population.params, np.asarray(x, np.float32), population.columns)
    got = np.asarray(_RAN[0][1][row])
    np.testing.assert_allclose(
        got, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max()
    )


def siren(state, x, offset):
    state = list(double(state).values())
    for weight, bias in zip(state[:-2:2], state[1:-2:2]):
        x = np.sin(30 * (x @ weight.T + bias))
    return x @ state[-2].T + state[-1] + offset


@pytest.mark.parametrize(
    "name, offset",
    [
        ("dws_inr", 0.5),
        ("fmnist_inr", 0.5),
        ("nfn_siren", 0),
        ("implicit_zoo", 0),
        ("inr2vec_h5", 0),
    ],
)
def test_sirens(tmp_path, name, offset):
    if name == "inr2vec_h5":
        pytest.importorskip("h5py")
    made = foreign_files.MAKERS[name](tmp_path)
    population = read_foreign(made.path, **made.options)
    inputs = population.function.input_shape[0]
    x = np.random.default_rng(0).uniform(-1, 1, (11, inputs))
    for row, state in enumerate(made.states):
        agree(population, row, x, siren(state, x, offset), 1e-4)


def test_small_cnn_zoo_has_no_padding_and_reads_grey_images(tmp_path):
    made = foreign_files.smallcnnzoo(tmp_path)
    population = read_foreign(made.path)
    x = np.random.default_rng(1).uniform(size=(3, 28, 28, 1))
    padded = []
    for row, state in enumerate(map(double, made.states)):
        act = ACTIVATIONS[("relu", "tanh")[row % 3 % 2]]
        outputs = []
        for padding in (0, 1):
            h = 2 * x.transpose(0, 3, 1, 2) - 1
            for layer in ("conv2d", "conv2d_1", "conv2d_2"):
                kernel = state[f"sequential/{layer}/kernel:0"].transpose(3, 2, 0, 1)
                h = act(conv(h, kernel, state[f"sequential/{layer}/bias:0"], 2, padding))
            h = h.mean((2, 3)) @ state["sequential/dense/kernel:0"]
            outputs.append(h + state["sequential/dense/bias:0"])
        agree(population, row, x, outputs[0])
        padded.append(np.abs(outputs[1] - outputs[0]).max() / np.abs(outputs[0]).max())
    assert min(padded) > 0.05  # the check above would not pass with the padding of that pipeline


@pytest.mark.parametrize("shapes, size", [("MODELZOO_CNN", 28), ("MODELZOO_CNN3", 32)])
def test_modelzoo_cnns_pool_before_the_activation(tmp_path, shapes, size):
    shapes = getattr(foreign_files, shapes)
    made = foreign_files.raytune_zoo(tmp_path, shapes=shapes, words=("gelu", "tanh"))
    population = read_foreign(made.path, mean=0.3, std=0.5)
    channels = next(iter(shapes.values()))[1]
    x = np.random.default_rng(2).uniform(size=(2, size, size, channels))
    for row in (0, 5):
        act = ACTIVATIONS[("gelu", "tanh")[row // 3]]
        state = list(double(made.states[row]).values())
        h = (x.transpose(0, 3, 1, 2) - 0.3) / 0.5
        for i in range(3):
            h = conv(h, state[2 * i], state[2 * i + 1])
            h = act(max_pool(h) if i < 2 or size == 32 else h)
        h = act(h.reshape(len(h), -1) @ state[6].T + state[7])
        agree(population, row, x, h @ state[8].T + state[9])


def test_wild_park_honours_residuals_and_an_activation_for_each_layer(tmp_path):
    made = foreign_files.cnn_wild_park(tmp_path)
    found = read_foreign(made.path)
    # the splits file lists the runs of "train" (run 1) after those of "test" (run 0)
    x = np.random.default_rng(3).uniform(size=(2, 32, 32, 3))
    names = ["relu", "none", "gelu", "leaky_relu"]
    residual, checked = [-1, -1, 0, 1], 0
    for population in found.values():
        run = int(population.columns["run"][0])
        states = {1: [], 20: []}
        count = 4 if "6-5-4" in next(k for k, p in found.items() if p is population) else 3
        states = made.states[2 * (count - 3) : 2 * (count - 3) + 2]
        for row, state in enumerate(map(double, states)):
            for honoured in (True, False):
                h, kept = x.transpose(0, 3, 1, 2), []
                for i in range(count):
                    weight = state[f"layers.{i}.weight"]
                    h = conv(h, weight, state[f"layers.{i}.bias"], 1, weight.shape[-1] // 2)
                    if residual[i] >= 0 and honoured:
                        shared = min(h.shape[1], kept[residual[i]].shape[1])
                        h[:, :shared] += kept[residual[i]][:, :shared]
                    h = ACTIVATIONS[names[i]](h)
                    kept.append(h)
                out = h.mean((2, 3)) @ state["fc.weight"].T + state["fc.bias"]
                if honoured:
                    agree(population, row, x, out)
                    right = out
                else:
                    assert np.abs(out - right).max() > 0.01 * np.abs(right).max()
            checked += 1
        assert run in (0, 1)
    assert checked == 4


def test_nws_normalises_by_the_batch(tmp_path):
    made = foreign_files.nws_bin(tmp_path)
    found = read_foreign(made.path)
    x = np.random.default_rng(4).uniform(size=(6, 32, 32, 3))
    for population in found.values():
        for row, run in enumerate(population.columns["run"]):
            state = double(made.states[int(run)])
            act = ACTIVATIONS[("relu", "elu", "sigmoid")[int(run)]]

            def norm(h, name, axes, state=state):
                mean, variance = h.mean(axes, keepdims=True), h.var(axes, keepdims=True)
                h = (h - mean) / np.sqrt(variance + 1e-5)
                shape = (-1, 1, 1) if len(axes) == 3 else (-1,)
                gain, shift = state[f"{name}_gamma"], state[f"{name}_beta"]
                return h * gain.reshape(shape) + shift.reshape(shape)

            h = x.transpose(0, 3, 1, 2)
            names = [key[:-2] for key in state if key.endswith("_W") and key.startswith("conv")]
            for i, name in enumerate(names):
                weight = state[f"{name}_W"].transpose(3, 2, 0, 1)
                h = conv(h, weight, state[f"{name}_b"], 1, weight.shape[-1] // 2)
                h = act(norm(h, name, (0, 2, 3)))
                if i + 1 == len(names) or names[i + 1][4] != name[4]:
                    h = max_pool(h)
            h = h.transpose(0, 2, 3, 1).reshape(len(h), -1)  # TensorFlow: channels last
            for name in ("fc1", "fc2"):
                h = act(h @ state[f"{name}_W"] + state[f"{name}_b"])
                h = norm(h, name, (0,))
            agree(population, row, x, h @ state["fc_final_W"] + state["fc_final_b"], 1e-3)


def test_lstms(tmp_path):
    made = foreign_files.rnn_npy(tmp_path)
    population = read_foreign(made.path)
    x = np.random.default_rng(5).normal(size=(2, 7, 4))
    for row, state in enumerate(map(double, made.states)):
        h, c, outputs = np.zeros((2, 2, 3)), np.zeros((2, 2, 3)), []
        for t in range(7):
            below = x[:, t]
            for i in range(2):
                gates = below @ state[f"lstm.weight_ih_l{i}"].T + state[f"lstm.bias_ih_l{i}"]
                gates += h[i] @ state[f"lstm.weight_hh_l{i}"].T + state[f"lstm.bias_hh_l{i}"]
                into, forget, cell, out = np.split(gates, 4, -1)
                c[i] = sigmoid(forget) * c[i] + sigmoid(into) * np.tanh(cell)
                h[i] = sigmoid(out) * np.tanh(c[i])
                below = h[i]
            outputs.append(below @ state["linear.weight"].T + state["linear.bias"])
        agree(population, row, x, np.stack(outputs, 1))


def test_small_transformers_have_no_residuals(tmp_path):
    made = foreign_files.transformer_zoo(tmp_path)
    population = read_foreign(made.path)
    x = np.random.default_rng(6).uniform(size=(2, 6, 6, 1))

    def norm(h):
        return (h - h.mean(-1, keepdims=True)) / np.sqrt(h.var(-1, keepdims=True) + 1e-5)

    for row, state in enumerate(map(double, made.states)):
        image, weight = x.transpose(0, 3, 1, 2), state["embedding.conv1.weight"]
        h = conv(image, weight, state["embedding.conv1.bias"], stride=3).reshape(2, 8, -1)
        h = h.transpose(0, 2, 1) + state["embedding.pos_embedding"]
        for i in range(2):
            block = {k.removeprefix(f"encoder.{i}."): v for k, v in state.items()}
            q, k, v = (
                (norm(h) @ block[f"attention.{name}.weight"].T).reshape(2, 4, 2, 4).swapaxes(1, 2)
                for name in ("queries", "keys", "values")
            )
            scores = np.exp(q @ k.swapaxes(-1, -2) / 2)
            mixed = (scores / scores.sum(-1, keepdims=True)) @ v
            h = mixed.swapaxes(1, 2).reshape(2, 4, 8) @ block["attention.out_projection.weight"].T
            up = np.maximum(norm(h) @ block["fc1.weight"].T + block["fc1.bias"], 0)
            h = up @ block["fc2.weight"].T + block["fc2.bias"]
        h = norm(h).mean(1) @ state["classifier.fc1.weight"].T + state["classifier.fc1.bias"]
        h = np.maximum(h, 0) @ state["classifier.fc2.weight"].T + state["classifier.fc2.bias"]
        agree(population, row, x, h)


def test_functions_have_the_symmetry_of_their_networks(tmp_path):
    """`infer` goes through what the readers attach."""
    expected = {
        "rnn_npy": 2 * math.lgamma(4),  # two layers of three units
        "dws_inr": 2 * math.lgamma(9),
        "transformer_zoo": None,
    }
    for name, order in expected.items():
        folder = Path(tmp_path, name)
        folder.mkdir()
        made = foreign_files.MAKERS[name](folder)
        population = read_foreign(made.path)
        one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), population[0])
        spec = population.function.infer(one, kinds=("permutation",))
        if order is not None:
            assert spec.log_order() == pytest.approx(order)
        else:  # residual-free: heads, their dimensions, and hidden units of both blocks and the head
            assert spec.log_order() > 2 * (math.lgamma(3) + math.lgamma(17))

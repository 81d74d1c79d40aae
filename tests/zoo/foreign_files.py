"""Small files in the formats of other people's zoos, made from known weights.

Each maker takes an empty folder and returns a `Made`: where to read, and what was put in. `change`
may alter the weights of one network on their way to its file.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wsljax.interop import torch_writer
from wsljax.interop.torch_file import write_torch

Change = Callable[[int, dict], dict] | None


class Made(NamedTuple):
    """Where the files are, how many networks there are, and the weights by name as written."""

    path: Path
    states: list[dict[str, np.ndarray]]
    options: dict[str, Any] = {}


def arrays(rng: np.random.Generator, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    return OrderedDict((n, 0.4 * rng.normal(size=s).astype(np.float32)) for n, s in shapes.items())


def torch_layers(widths, name: str, last: str | None = None) -> dict[str, tuple[int, ...]]:
    shapes = {}
    for i, (n, m) in enumerate(zip(widths, widths[1:])):
        prefix = (last if last and i == len(widths) - 2 else name).format(i)
        shapes |= {f"{prefix}.weight": (m, n), f"{prefix}.bias": (m,)}
    return shapes


def changed(change: Change, i: int, state: dict) -> dict:
    return state if change is None else change(i, OrderedDict(state))


def write(tree: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_torch(tree, path)


# -- SIRENs ----------------------------------------------------------------------------------------


def dws_inr(folder: Path, change: Change = None) -> Made:
    rng, states = np.random.default_rng(0), []
    table = {part: {"path": [], "label": []} for part in ("train", "val", "test")}
    # sorted by name, as numbers: testing before training, 2 before 10
    for i, (part, label, index) in enumerate(
        [("testing", 6, 12), ("training", 0, 2), ("training", 0, 10), ("training", 5, 1)]
    ):
        states.append(arrays(rng, torch_layers((2, 8, 8, 1), "seq.{}")))
        name = f"mnist_png_{part}_{label}_{index}"
        place = f"mnist-inrs/{name}/checkpoints/model_final.pth"
        write(changed(change, i, states[-1]), folder / place)
        split = {"testing": "test", "training": "val" if i == 3 else "train"}[part]
        table[split]["path"].append(place)
        table[split]["label"].append(str(label))
    (folder / "mnist_splits.json").write_text(json.dumps(table))
    return Made(folder, states)


def fmnist_inr(folder: Path, change: Change = None) -> Made:
    rng, states, splits = np.random.default_rng(1), [], {"train": [], "val": [], "test": []}
    for i, (part, index) in enumerate([("train", 2), ("train", 10), ("test", 0)]):
        states.append(arrays(rng, torch_layers((2, 8, 8, 1), "seq.{}")))
        file = f"fmnist_inrs/{part}/model_{index}.pth"
        write({**changed(change, i, states[-1]), "label": 3 + i}, folder / file)
        splits["val" if index == 10 else part].append(f"/home/someone/elsewhere/{file}")
    (folder / "fmnist_inrs" / "splits.json").write_text(json.dumps(splits))
    return Made(folder / "fmnist_inrs", states)


def nfn_siren(folder: Path, change: Change = None) -> Made:
    rng, states = np.random.default_rng(2), []
    for i, index in enumerate([3, 20, 45_000, 50_000]):
        states.append(arrays(rng, torch_layers((2, 8, 8, 1), "net.{}.linear", "net.{}")))
        file = folder / f"randinit_smaller_{index % 10}s" / f"net{index}.pth"
        write(changed(change, i, states[-1]), file)
        for copy in (0, 1):  # the trap: the prefix of a glob fits these folders, too
            other = {name: value + 1 + copy for name, value in states[-1].items()}
            write(other, folder / f"randinit_smaller_aug{copy}_{index % 10}s" / file.name)
    return Made(folder, states)


def implicit_zoo(folder: Path, change: Change = None) -> Made:
    rng, states = np.random.default_rng(3), []
    for i, (label, index, seed) in enumerate([(4, 0, 0), (4, 0, 7), (1, 2, 2)]):
        states.append(arrays(rng, torch_layers((2, 8, 8, 3), "seq.{}")))
        file = folder / "ckpts" / f"{label:02d}" / f"{index:06d}_{seed:07d}.ckpt"
        write({"image_idx": index, "params": changed(change, i, states[-1])}, file)
    (folder / "0_3.json").write_text(json.dumps({"0": 31.5, "2": 30.25}))
    return Made(folder, states)


def inr2vec_h5(folder: Path, change: Change = None) -> Made:
    import h5py

    rng, states, widths = np.random.default_rng(4), [], (3, 6, 6, 1)
    for i, (part, index) in enumerate([("train", 2), ("train", 10), ("val", 0), ("test", 1)]):
        states.append(arrays(rng, torch_layers(widths, "layers.{}")))
        flat = np.concatenate([v.ravel() for v in changed(change, i, states[-1]).values()])
        (folder / part).mkdir(exist_ok=True)
        with h5py.File(folder / part / f"{index}.h5", "w") as file:
            file["params"], file["class_id"] = flat, 7 + i
            file["pcd"] = rng.normal(size=(5, 3))
    return Made(folder, states, {"widths": widths})


# -- classifiers -----------------------------------------------------------------------------------

CNN_LAYOUT = [
    ("sequential/conv2d/bias:0", (5,)),
    ("sequential/conv2d/kernel:0", (3, 3, 1, 5)),
    ("sequential/conv2d_1/bias:0", (4,)),
    ("sequential/conv2d_1/kernel:0", (3, 3, 5, 4)),
    ("sequential/conv2d_2/bias:0", (4,)),
    ("sequential/conv2d_2/kernel:0", (3, 3, 4, 4)),
    ("sequential/dense/bias:0", (10,)),
    ("sequential/dense/kernel:0", (4, 10)),
]


def smallcnnzoo(folder: Path, change: Change = None, metrics: Callable | None = None) -> Made:
    rng, rows, vectors, states, layout, start = np.random.default_rng(5), [], [], [], [], 0
    for name, shape in CNN_LAYOUT:
        end = start + int(np.prod(shape))
        layout.append([name, start, end, end - start, str(shape)])
        start = end
    for i in range(6):  # two steps of three runs, sorted by step as the real ones
        step, run = ((0, 86)[i // 3], i % 3)
        states.append(arrays(rng, dict(CNN_LAYOUT)))
        vectors.append(np.concatenate([v.ravel() for v in changed(change, i, states[-1]).values()]))
        rows.append(
            {
                "": f"/zoo/run_{run}/permanent_ckpt-{step}",
                "config.activation": ("relu", "tanh")[run % 2],
                "config.learning_rate": 0.01 * (run + 1),
                "config.l2reg": "" if run == 1 else 1e-3,
                "modeldir": f"/zoo/run_{run}",
                "step": step,
                "test_accuracy": 0.1 * i,
                "test_loss": 1.0 - 0.1 * i,
                "train_accuracy": 0.1 * i,
                "train_loss": 1.0,
            }
        )
    np.save(folder / "weights.npy", np.stack(vectors))
    with open(folder / "layout.csv", "w", newline="") as file:
        out = csv.writer(file)
        out.writerows([["varname", "start_idx", "end_idx", "size", "shape"], *layout])
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    lines = lines if metrics is None else metrics(lines)
    text = io.StringIO(newline="")
    csv.writer(text).writerows(lines)
    (folder / "metrics.csv.gz").write_bytes(gzip.compress(text.getvalue().encode()))
    return Made(folder, states)


MODELZOO_CNN = {
    "module_list.0.weight": (8, 1, 5, 5),
    "module_list.0.bias": (8,),
    "module_list.3.weight": (6, 8, 5, 5),
    "module_list.3.bias": (6,),
    "module_list.6.weight": (4, 6, 2, 2),
    "module_list.6.bias": (4,),
    "module_list.9.weight": (20, 36),
    "module_list.9.bias": (20,),
    "module_list.11.weight": (10, 20),
    "module_list.11.bias": (10,),
}
MODELZOO_CNN3 = {
    "module_list.0.weight": (16, 3, 3, 3),
    "module_list.0.bias": (16,),
    "module_list.4.weight": (32, 16, 3, 3),
    "module_list.4.bias": (32,),
    "module_list.8.weight": (15, 32, 3, 3),
    "module_list.8.bias": (15,),
    "module_list.13.weight": (20, 60),
    "module_list.13.bias": (20,),
    "module_list.16.weight": (10, 20),
    "module_list.16.bias": (10,),
}


def raytune_zoo(
    folder: Path, change: Change = None, shapes=MODELZOO_CNN, words=("tanh", "gelu")
) -> Made:
    rng, states = np.random.default_rng(6), []
    for run in range(2):
        trial = folder / f"NN_tune_trainable_{run}_seed={run}"
        trial.mkdir()
        config = {
            "model::type": "CNN",
            "model::nlin": words[run],
            "optim::lr": 1e-3 * (run + 1),
            "seed": run,
            "dataset::dump": "x",
            "training::list": [1, 2],
        }
        (trial / "params.json").write_text(json.dumps(config))
        lines = []
        for epoch in (0, 2, 10):  # no result of epoch 0, and others between
            states.append(arrays(rng, shapes))
            name = f"checkpoint_{epoch:06d}" if run else f"checkpoint_{epoch}"
            state = changed(change, len(states) - 1, states[-1])
            write(state, trial / name / "checkpoints")
        for epoch in range(1, 11):
            metrics = {"train_acc": 0.01 * epoch, "test_acc": 0.05 * epoch + run, "test_loss": 1.0}
            lines.append(json.dumps({**metrics, "training_iteration": epoch, "config": config}))
        (trial / "result.json").write_text("\n".join(lines) + "\n{cut off")
    return Made(folder, states)


def cnn_wild_park(folder: Path, change: Change = None) -> Made:
    rng, states = np.random.default_rng(7), []
    table = {part: {"path": [], "score": [], "step": []} for part in ("train", "val", "test")}
    for run in range(2):
        config = {
            "n_layers": 3 + run,
            "n_classes": 10,
            "channels": [3, 4, 6, 5, 4][: 4 + run],
            "kernel_size": [3, 5, 3, 7][: 3 + run],
            "stride": [1] * (3 + run),
            "padding": [1, 2, 1, 3][: 3 + run],
            "residual": [-1, -1, 0, 1][: 3 + run],
            "activation": ["relu", "none", "gelu", "leaky_relu"][: 3 + run],
        }
        for step in (1, 20):
            shapes = {}
            for i, kernel in enumerate(config["kernel_size"]):
                n, m = config["channels"][i : i + 2]
                shapes |= {f"layers.{i}.weight": (m, n, kernel, kernel), f"layers.{i}.bias": (m,)}
            shapes |= {"fc.weight": (10, config["channels"][-1]), "fc.bias": (10,)}
            states.append(arrays(rng, shapes))
            name = f"cnn_wild/cifar10_zooV2/run_{run}/checkpoint_{step:06d}/checkpoint.pt"
            score = 0.1 * run + 0.01 * step
            write(
                {
                    "model": changed(change, len(states) - 1, states[-1]),
                    "optimizer": {"state": {}, "param_groups": [{"lr": 0.1, "params": [0]}]},
                    "config": config,
                    "iteration": step,
                    "last_result": {"test/acc": score, "test/loss": 2.0},
                },
                folder / name,
            )
            part = table["train" if run else "test"]
            for key, value in zip(("path", "score", "step"), (name, score, step)):
                part[key].append(value)
    (folder / "cnn_park_splits.json").write_text(json.dumps(table))
    return Made(folder, states)


TRANSFORMER = {
    "embedding.pos_embedding": (4, 8),
    "embedding.conv1.weight": (8, 1, 3, 3),
    "embedding.conv1.bias": (8,),
    **{
        f"encoder.{i}.{name}": shape
        for i in range(2)
        for name, shape in {
            "attention.queries.weight": (8, 8),
            "attention.keys.weight": (8, 8),
            "attention.values.weight": (8, 8),
            "attention.out_projection.weight": (8, 8),
            "fc1.weight": (16, 8),
            "fc1.bias": (16,),
            "fc2.weight": (8, 16),
            "fc2.bias": (8,),
        }.items()
    },
    "classifier.fc1.weight": (8, 8),
    "classifier.fc1.bias": (8,),
    "classifier.fc2.weight": (10, 8),
    "classifier.fc2.bias": (10,),
}


def transformer_zoo(folder: Path, change: Change = None) -> Made:
    rng, states, rows = np.random.default_rng(8), [], []
    for i, (run, epoch, acc) in enumerate([("ab1", 75, 9000), ("cd2", 75, 8000), ("ab1", 50, 100)]):
        state = arrays(rng, TRANSFORMER)
        name = f"mnist/{run}_{epoch}_{acc}.pt"
        write(changed(change, i, state), folder / name)
        states += [state] * (epoch == 75)
        rows.append([run, "adam", 0.01, epoch, name, acc / 1e4])
    rows.append(["ef3", "sgd", 0.1, "best", "mnist/ef3_best_9000.pt", 0.9])
    (folder / "metadata").mkdir()
    with open(folder / "metadata" / "mnist.csv", "w", newline="") as file:
        header = ["name", "optimizer", "lr", "ckpt_epoch", "ckpt_file", "test_top1_accuracy"]
        csv.writer(file).writerows([header, *rows])
    return Made(folder, states)


def nws_shapes(kernel, conv_depth, fc_depth, conv_width, fc_width) -> dict[str, tuple[int, ...]]:
    """Names and shapes in the order of creation, as TensorFlow keeps them."""
    counts = {3: (1, 1, 1), 4: (1, 1, 2), 5: (1, 2, 2)}[conv_depth]
    shapes, last = {}, 3
    for block, count in enumerate(counts):
        for b in range(count):
            name, wide = f"conv{block + 1}{b + 1}", conv_width * 2**block
            shapes |= {f"{name}_W": (kernel, kernel, last, wide), f"{name}_b": (wide,)}
            shapes |= {f"{name}_{part}": (wide,) for part in ("beta", "gamma", "mean", "variance")}
            last = wide
    last *= 16
    for c in range(fc_depth):
        wide = int(fc_width * 2.0**-c)
        shapes |= {f"fc{c + 1}_W": (last, wide), f"fc{c + 1}_b": (wide,)}
        shapes |= {f"fc{c + 1}_{part}": (wide,) for part in ("beta", "gamma", "mean", "variance")}
        last = wide
    return shapes | {"fc_final_W": (last, 20), "fc_final_b": (20,)}


def nws_vector(state: dict[str, np.ndarray]) -> np.ndarray:
    """Kernel after kernel, columns of matrices after each other."""
    out = []
    for value in state.values():
        if value.ndim == 4:
            out += [value[:, :, j, i] for i in range(value.shape[3]) for j in range(value.shape[2])]
        elif value.ndim == 2:
            out += [value[:, i] for i in range(value.shape[1])]
        else:
            out.append(value)
    return np.concatenate([np.ravel(part) for part in out]).astype(np.float64)


def nws_bin(folder: Path, change: Change = None) -> Made:
    rng, states, rows = np.random.default_rng(9), [], []
    for run, sizes in enumerate([(3, 4, 2, 2, 8), (3, 4, 2, 2, 8), (5, 3, 2, 4, 8)]):
        shapes = nws_shapes(*sizes)
        states.append(arrays(rng, shapes))
        place = folder / f"nets/{run:04d}"
        (place / "weights").mkdir(parents=True)
        nws_vector(changed(change, run, states[-1])).tofile(place / "weights" / "020.bin")
        errors = np.arange(25 * 5, dtype=np.float64).reshape(25, 5) + run
        errors.tofile(place / "error.bin")
        np.array([25.0, 1, 2, 3]).tofile(place / "stat.bin")
        conv = sum(int(np.prod(s)) for n, s in shapes.items() if n.startswith("conv"))
        fc = sum(int(np.prod(s)) for n, s in shapes.items() if n.startswith("fc"))
        row = ["mnist", 0.001, 32, True, False, 0, run, 1, *sizes, f"nets/{run:04d}", conv, fc]
        rows.append(row)
    header = "dataset lrate batch_size batch_norm augmentation optimizer activation initialization "
    header += "filter_size depth_conv depth_fc width_conv width_fc path weightn_conv weightn_fc"
    with open(folder / "nws_main_test.csv", "w", newline="") as file:
        csv.writer(file).writerows([header.split(), *rows])
    return Made(folder / "nws_main_test.csv", states)


LSTM = {
    "lstm.weight_ih_l0": (12, 4),
    "lstm.weight_hh_l0": (12, 3),
    "lstm.bias_ih_l0": (12,),
    "lstm.bias_hh_l0": (12,),
    "lstm.weight_ih_l1": (12, 3),
    "lstm.weight_hh_l1": (12, 3),
    "lstm.bias_ih_l1": (12,),
    "lstm.bias_hh_l1": (12,),
    "linear.weight": (4, 3),
    "linear.bias": (4,),
}


def rnn_npy(folder: Path, change: Change = None, digits: bool = False) -> Made:
    rng = np.random.default_rng(10)
    states = [arrays(rng, LSTM) for _ in range(4)]
    vectors = [
        np.concatenate([v.ravel() for v in changed(change, i, state).values()])
        for i, state in enumerate(states)
    ]
    np.save(folder / "parameters.npy", np.stack(vectors))
    steps = np.array([[i // 2, 100 * (i % 2)] for i in range(4)])
    if digits:
        np.save(folder / "tasks.npy", np.arange(4.0)[:, None])
        np.save(folder / "num_step.npy", steps)
        np.save(folder / "accuracy_losses.npy", np.arange(16.0).reshape(4, 4))
    else:
        np.save(folder / "tasks.npy", np.array([[0, -3], [0, -3], [0, 2], [0, 2]]))
        np.save(folder / "num_step_correct.npy", np.c_[steps, [0, 500, 10, 1000]])
    (folder / "args.json").write_text(json.dumps({"rnn_hidden_size": 3, "rnn_num_layers": 2}))
    return Made(folder, states, {"inputs": 4, "outputs": 4} if digits else {})


# -- tables, tokens and pickles --------------------------------------------------------------------


def model_j(folder: Path, change: Change = None) -> Made:
    from safetensors.numpy import save_file

    rng, states = np.random.default_rng(11), []
    for i, classes in enumerate([["cat", "dog"], ["ant", "cat"], ["dog"]]):
        states.append(
            arrays(rng, {"head.weight": (3, 4), "body.weight": (4, 4), "head.bias": (3,)})
        )
        place = folder / f"models--user--net-{i}"
        snapshot = place / "snapshots" / f"{i:040x}"
        snapshot.mkdir(parents=True)
        (place / "refs").mkdir()
        (place / "refs" / "main").write_text(f"{i:040x}\n")
        data = {n: np.ascontiguousarray(v) for n, v in changed(change, i, states[-1]).items()}
        metadata = {"dataset_chosen_targets": str(classes), "format": "pt"}
        save_file(data, snapshot / "model.safetensors", metadata)
    (folder / "models--user--unfinished").mkdir()
    (folder / ".locks").mkdir()
    return Made(folder, states)


def lora(folder: Path, change: Change = None) -> Made:
    from safetensors.numpy import save_file

    rng, states = np.random.default_rng(12), []
    for i in range(3):
        states.append(arrays(rng, {"A": (2, 6), "B": (5, 2)}))
        place = folder / f"subset_{i % 2}"
        place.mkdir(exist_ok=True)
        data = {n: np.ascontiguousarray(v) for n, v in changed(change, i, states[-1]).items()}
        save_file(data, place / f"model_{i}.safetensors", {"imagenet_class_id": str(100 + i)})
    order = [0, 2, 1]  # by folder, then by number
    return Made(folder, [states[i] for i in order])


def weights2weights(folder: Path, change: Change = None) -> Made:
    rng = np.random.default_rng(13)
    mean, std = rng.normal(size=20).astype(np.float32), np.ones(20, np.float32)
    std[3] = -0.5  # as in the published file
    directions = np.linalg.qr(rng.normal(size=(20, 6)))[0].astype(np.float32)
    rows = [changed(change, i, arrays(rng, {"weights": (20,)})) for i in range(4)]
    write(np.stack([row["weights"] for row in rows]), folder / "all_weights.pt")
    standard = (np.stack([row["weights"] for row in rows]) - mean) / std
    write(standard @ directions, folder / "proj_1000pc.pt")
    for name, value in (("mean", mean), ("std", std), ("V", directions)):
        write(value, folder / f"{name}.pt")
    return Made(folder, rows)


def sane_tokens(folder: Path, change: Change = None) -> Made:
    rng, states = np.random.default_rng(14), []
    for part, indices in (("train", (2, 10)), ("test", (0,))):
        for i in indices:
            states.append(arrays(rng, {"w": (7, 5)}))
            rest = {"m": np.ones((7, 5), bool), "p": np.zeros((7, 3), np.int32)}
            props = np.array([0.5 + i, 25.0], np.float32)
            state = changed(change, len(states) - 1, states[-1])
            file = folder / f"dataset_torch.{part}" / f"sample_{i}.pt"
            write({**state, **rest, "props": props}, file)
        info = {"properties": ["test_acc", "training_iteration"], "num_samples": len(indices)}
        (folder / f"dataset_info_{part}.json").write_text(json.dumps(info))
    return Made(folder, states)


def functa_npz(folder: Path, change: Change = None) -> Made:
    rng = np.random.default_rng(15)
    rows = [changed(change, i, arrays(rng, {"modulation": (8,)})) for i in range(5)]
    matrix = np.stack([row["modulation"] for row in rows])
    data = {
        "train": {"modulation": matrix[:3], "psnr": np.arange(3, dtype=np.float32)},
        "test": {"modulation": matrix[3:], "psnr": np.arange(2, dtype=np.float32)},
    }
    path = folder / "celeba_modulations_8_latents.npz"
    path.write_bytes(pickle.dumps(data, 4))
    return Made(path, rows, {"plain": True})


class Instance(NamedTuple):
    """An object of a class that is nowhere, for the pickle of a data set."""

    name: str
    state: dict[str, Any]


class _ObjectPickle(torch_writer._Pickle):
    def put(self, value: Any, where: str) -> None:
        if isinstance(value, Instance):
            module, _, name = value.name.rpartition(".")
            self.code += f"c{module}\n{name}\n)\x81".encode("latin1")
            self.put(value.state, where)
            self.code += b"b"
        else:
            super().put(value, where)


def modelzoo_pt(folder: Path, change: Change = None) -> Made:
    rng, states, sets = np.random.default_rng(16), [], {}
    for part, count in (("trainset", 2), ("valset", 1), ("testset", 1)):
        nets = []
        for _ in range(count):
            states.append(arrays(rng, MODELZOO_CNN))
            nets.append(changed(change, len(states) - 1, states[-1]))
        state = {
            "data_in": nets,
            "properties": {"test_acc": [0.5] * count, "model::nlin": ["tanh"] * count},
            "epochs": [50] * count,
            "paths": [f"zoo/{part}_{i}" for i in range(count)],
            "mode": "checkpoint",
        }
        sets[part] = Instance("checkpoints_to_datasets.dataset_base.ModelDatasetBase", state)
    path = folder / "dataset_mnist.pt"
    original = torch_writer._Pickle
    torch_writer._Pickle = _ObjectPickle
    try:
        write_torch(sets, path)
    finally:
        torch_writer._Pickle = original
    return Made(path, states, {"plain": True})


def idx_bytes(array: np.ndarray) -> bytes:
    kind = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}
    head = bytes([0, 0, kind[array.dtype.name], array.ndim])
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return head + sizes + array.astype(array.dtype.newbyteorder(">")).tobytes()


MAKERS = {
    maker.__name__: maker
    for maker in (
        dws_inr,
        fmnist_inr,
        nfn_siren,
        implicit_zoo,
        inr2vec_h5,
        smallcnnzoo,
        raytune_zoo,
        cnn_wild_park,
        transformer_zoo,
        nws_bin,
        rnn_npy,
        model_j,
        lora,
        weights2weights,
        sane_tokens,
        functa_npz,
        modelzoo_pt,
    )
}

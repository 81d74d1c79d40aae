"""ScaleGMN (Kalogeropoulos et al. 2024), from a checkout of `scalegmn`: forward, and in both directions.

Models come from the repository's own configs (`mnist_cls`, `mnist_editing`, `cifar10`) with other widths
and depths where they are asked for: the sign group for sine networks; for CNNs positive scales where all
are ReLU, signs where all are tanh, each its own where both occur. Weights are read as they are. The
repository first shifts phases of sine networks so that |bias| <= pi / 2; where that holds already the
shift changes nothing, and where it does not the row is refused.
"""

import copy
import math
import sys
import types
from pathlib import Path
from typing import Any

import torch
from _peers.tasks import Learner, Networks, Shapes, Task, draw, with_channel, without_channel

FOLDERS = {"classification": "mnist_cls", "editing": "mnist_editing"}


class ScaleGMN:
    """What can be built of the repository; `name` is forward or both."""

    def __init__(self, peers: Path, name: str):
        self.root, self.name = peers / "scalegmn", name
        sys.path.insert(0, str(self.root))
        data = types.ModuleType(
            "src.data"
        )  # its folder without its data sets, which need much else
        data.__path__ = [str(self.root / "src/data")]
        sys.modules["src.data"] = data

    def network(self, shapes: Shapes, channels: int, layers: int, networks: int):
        """A plain predictor of one number, and how it is run on random networks."""
        from src.scalegmn.models import ScaleGMN as Model

        x = draw(shapes, networks)
        config = self.config("cifar10/scalegmn_relu", x, channels, layers)
        args = config["scalegmn_args"]
        batch = Graphs(args, x, inputs=1.0)(x._replace(tanh=torch.zeros(networks, dtype=bool)))
        return Model(args), lambda net: net(copy.copy(batch))

    def config(
        self, file: str, x: Networks, channels: int | None, layers: int | None, **options: Any
    ) -> dict:
        """A config of the repository for networks like these."""
        import yaml
        from src.utils.helpers import update_common_args

        end = "_bidir" if self.name == "both" else ""
        config = yaml.safe_load((self.root / "configs" / f"{file}{end}.yml").read_text())
        args = config["scalegmn_args"]
        args["layer_layout"] = x.layout
        args["d_hid"] = channels or args["d_hid"]
        args["num_layers"] = layers or args["num_layers"]
        if not x.convolutional:
            for name in ("_max_kernel_height", "_max_kernel_width"):
                args.pop(name, None)
        for name, value in options.items():
            *path, last = name.split(".")
            place = args
            for part in path:
                place = place[part]
            place[last] = value
        return update_common_args(config)

    def learner(self, task: Task, first: Networks, **options: Any) -> Learner:
        """A network for a task; `options` are set in the config's `scalegmn_args`, by dotted names."""
        from src.scalegmn.models import ScaleGMN as Model
        from src.scalegmn.models import ScaleGMN_equiv as Editor

        if task.augment:
            raise NotImplementedError("scalegmn has no random changes of networks")
        if task.kind == "regression":
            file = f"cifar10/scalegmn_{_group(first)}"
        else:
            file = f"{FOLDERS[task.kind]}/scalegmn"
            largest = max(float(b.abs().max()) for b in first.biases)
            if largest > math.pi / 2:
                raise NotImplementedError(
                    f"a bias of {largest:.2f} is more than pi / 2: scalegmn shifts phases first"
                )
        config = self.config(file, first, task.channels, task.layers, **options)
        args, rate = config["scalegmn_args"], float(config["optimization"]["optimizer_args"]["lr"])
        batch = Graphs(args, first, inputs=0.0 if task.kind == "regression" else 1.0)
        if task.kind == "editing":

            def forward(net, x):
                return without_channel(net(batch(x), *with_channel(x)))

            return Learner(Editor(args), forward, rate)
        args["readout_args"]["d_out"] = task.out
        if task.kind == "regression":
            return Learner(Model(args), lambda net, x: net(batch(x))[:, 0].sigmoid(), rate, "mse")
        return Learner(Model(args), lambda net, x: net(batch(x)), rate)


class Graphs:
    """Networks as the graphs that the models read: units with biases, connections with kernels."""

    def __init__(self, args: dict, first: Networks, inputs: float):
        from src.data.data_utils import get_edge_types, get_node_types

        layout = first.layout
        starts = torch.cumsum(torch.tensor([0, *layout]), 0).tolist()
        pairs = [
            torch.cartesian_prod(torch.arange(a, b), torch.arange(b, c))
            for a, b, c in zip(starts[:-2], starts[1:-1], starts[2:], strict=True)
        ]
        index = torch.cat(pairs).T.contiguous()
        nodes = sum(layout)
        hidden = torch.zeros(nodes, 1, dtype=torch.bool)
        hidden[layout[0] : nodes - layout[-1]] = True
        start = torch.zeros(nodes, 1, dtype=torch.bool)
        start[: layout[0]] = True
        device = first.biases[0].device
        self.shared = {
            "edge_index": index, "bw_edge_index": index.flip(0), "mask_hidden": hidden,
            "mask_first_layer": start,
        }  # fmt: skip
        if args["node_pos_embed"]:
            self.shared["node2type"] = get_node_types(layout)
        if args["edge_pos_embed"]:
            self.shared["edge2type"] = get_edge_types(layout)
        self.shared = {name: value.to(device) for name, value in self.shared.items()}
        self.inputs = torch.full((layout[0],), inputs, device=device)
        self.numbers = max(math.prod(s[2:]) for s in first.shapes)

    def __call__(self, x: Networks):
        from torch_geometric.data import Batch, Data

        flat = [w.flatten(3) if w.ndim > 3 else w[..., None] for w in x.weights]
        flat = [torch.nn.functional.pad(w, (0, self.numbers - w.shape[-1])) for w in flat]
        edges = torch.cat([w.flatten(1, 2) for w in flat], 1)
        count = len(edges)
        units = torch.cat([self.inputs.expand(count, -1), *x.biases], 1)[..., None]
        graphs = []
        for i in range(count):
            signs = {} if x.tanh is None else {"sign_mask": bool(x.tanh[i])}
            graphs.append(Data(x=units[i], edge_attr=edges[i], **self.shared, **signs))
        return Batch.from_data_list(graphs)


def _group(first: Networks) -> str:
    if first.tanh is None:
        raise NotImplementedError("scalegmn must know which networks are ReLU and which are tanh")
    if bool(first.tanh.all()):
        return "tanh"
    return "hetero" if bool(first.tanh.any()) else "relu"

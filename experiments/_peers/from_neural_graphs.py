"""Neural graphs (Kofinas et al. 2024), from a checkout of `neural-graphs`: graph network and transformer.

Models come from the repository's own configs with what its scripts set for MNIST and the small CNN zoo
(dropout, edges in both directions), no probe features, and other widths and depths where they are asked
for. As there, weights and biases of sine networks are standardised by mean and deviation of their layer
over the training networks, those of CNNs not at all; CNNs are graphs of channels with flat kernels on
the edges, activations embedded where they are known; numbers are sigmoids. Its random changes of sine
networks come with `augment`. Its graph network that edits reads biases off the wrong nodes; it is run
as it is.
"""

import copy
import sys
from pathlib import Path
from typing import Any

import torch
from _peers.tasks import (
    Learner,
    Networks,
    Shapes,
    Task,
    draw,
    layer_statistics,
    own_augmentation,
    with_channel,
    without_channel,
)

MODELS = {"graph": "pna", "transformer": "rtransformer"}
WIDTHS = {
    "graph": ("d_hid",),
    "transformer": ("d_node", "d_edge", "d_attn_hid", "d_node_hid", "d_edge_hid", "d_out_hid"),
}
DEPTHS = {"graph": "gnn_backbone.num_layers", "transformer": "n_layers"}
SCRIPTS: dict[tuple[str, str], dict[str, Any]] = {
    ("classification", "graph"): {"gnn_backbone.dropout": 0.2, "rev_edge_features": True},
    ("classification", "transformer"): {"dropout": 0.2},
    ("editing", "graph"): {"gnn_backbone.dropout": 0.2, "rev_edge_features": True},
    ("editing", "transformer"): {"dropout": 0.3, "rev_edge_features": True},
    ("regression", "graph"): {},
    ("regression", "transformer"): {},
}
"""What the scripts of the repository set beside its configs."""
FOLDERS = {
    "classification": "inr_classification",
    "editing": "style_editing",
    "regression": "cnn_generalization",
}


class NeuralGraphs:
    """What can be built of the repository; `name` is graph or transformer."""

    def __init__(self, peers: Path, name: str):
        self.root, self.name = peers / "neural-graphs", name
        sys.path.insert(0, str(self.root))
        import torch_geometric.utils as utils

        if hasattr(utils, "_trim_to_layer"):  # where the module that they import went
            sys.modules.setdefault("torch_geometric.utils.trim_to_layer", utils._trim_to_layer)

    def network(self, shapes: Shapes, channels: int, layers: int, networks: int):
        """A plain classifier of one number, and how it is run on random networks."""
        import hydra

        config = self.config("classification", channels, layers)
        config.data.stats = None
        config.model.d_out = 1
        x = draw(shapes, networks)
        net = hydra.utils.instantiate(config.model, layer_layout=x.layout)
        inputs = with_channel(x)
        return net, lambda net: net(inputs)

    def config(self, kind: str, channels: int | None, layers: int | None, **settings: Any) -> Any:
        """The repository's config of a kind of task, with other widths and depths."""
        import hydra
        from omegaconf import OmegaConf

        if not OmegaConf.has_resolver("prod"):
            OmegaConf.register_new_resolver("prod", lambda x, y: x * y)
        if channels is not None:
            settings = dict.fromkeys(WIDTHS[self.name], channels) | settings
            if self.name == "transformer":
                settings = {"n_heads": 4} | settings
        if layers is not None:
            settings = {DEPTHS[self.name]: layers} | settings
        folder = (self.root / "experiments" / FOLDERS[kind] / "configs").resolve()
        overrides = [f"model={MODELS[self.name]}"]
        if kind == "regression":
            overrides.append("data=zoo_cifar_nfn")
        with hydra.initialize_config_dir(version_base=None, config_dir=str(folder)):
            config = hydra.compose("base", overrides=overrides)
        for name, value in settings.items():
            OmegaConf.update(config.model, name, value, force_add=True)
        return config

    def learner(self, task: Task, first: Networks, **options: Any) -> Learner:
        """A network for a task; `options` are set in the config of the model, by dotted names."""
        if (task.kind == "regression") != first.convolutional:
            raise NotImplementedError(
                "neural-graphs classifies and edits dense networks, and predicts numbers of CNNs"
            )
        settings = SCRIPTS[task.kind, self.name] | options
        config = self.config(task.kind, task.channels, task.layers, **settings)
        rate = float(config.optim.lr)
        if task.kind == "regression":
            return self._cnn(config, rate, task, first)
        return self._dense(config, rate, task, first)

    def _dense(self, config, rate: float, task: Task, first: Networks) -> Learner:
        import hydra

        config.data.stats = layer_statistics(first)
        change = lambda networks: networks  # noqa: E731 - replaced below
        if task.augment:
            from experiments.data import INRDataset

            change = own_augmentation(INRDataset)
        if task.kind == "editing":
            net = hydra.utils.instantiate(config.model, layer_layout=first.layout)

            def forward(net, x):
                return without_channel(net(with_channel(x)))
        else:
            config.model.d_out = task.out
            net = hydra.utils.instantiate(config.model, layer_layout=first.layout)

            def forward(net, x):
                return net(with_channel(x))

        return Learner(net, forward, rate, "mse", change)

    def _cnn(self, config, rate: float, task: Task, first: Networks) -> Learner:
        import hydra
        import torch_geometric

        from experiments.cnn_generalization.utils import cnn_to_tg_data, pad_and_flatten_kernel

        if task.augment:
            raise NotImplementedError("noise of CNNs is an option of the row")
        sizes = [max(s[2 + k] for s in first.shapes if len(s) > 2) for k in (0, 1)]
        as_convolution = self.name == "transformer"  # its script; the graph network's says no
        config.data.linear_as_conv = as_convolution
        config.data.input_channels, config.data.num_classes = first.layout[0], first.layout[-1]
        config.data.layer_layout = first.layout
        config.data.max_num_hidden_layers = len(first.layout) - 2
        config.data._max_kernel_height, config.data._max_kernel_width = sizes

        def flat(w: torch.Tensor) -> torch.Tensor:  # (in, out, numbers)
            if w.ndim == 4:
                return pad_and_flatten_kernel(w, sizes)
            if as_convolution:
                return pad_and_flatten_kernel(w[..., None, None], sizes)
            return w[..., None]

        def graph(one: Networks):
            activation = {}
            if one.tanh is not None:
                word = "tanh" if bool(one.tanh) else "relu"
                activation["activations"] = [word] * (len(first.layout) - 2)
            return cnn_to_tg_data(
                [flat(w) for w in one.weights], [b[:, None] for b in one.biases],
                [int(len(s) > 2) for s in first.shapes], fmap_size=1, layer_layout=first.layout,
                **activation,
            )  # fmt: skip

        example = graph(first.take(0))
        degrees = torch.bincount(example.edge_index[1], minlength=sum(first.layout))
        config.data.deg = torch.bincount(degrees).tolist()

        def batch(x: Networks):
            graphs = []
            for i in range(len(x.biases[0])):
                one = copy.copy(example)
                net = x.take(i)
                bias = torch.cat([example.x.new_zeros(first.layout[0]), *net.biases])
                edges = [flat(w).flatten(0, 1) for w in net.weights]
                widest = max(e.shape[-1] for e in edges)
                edges = [torch.nn.functional.pad(e, (0, widest - e.shape[-1])) for e in edges]
                one.x, one.edge_attr = bias[:, None], torch.cat(edges)
                if net.tanh is not None:
                    word = "tanh" if bool(net.tanh) else "relu"
                    one.activations = [word] * (len(first.layout) - 2)
                graphs.append(one)
            return torch_geometric.data.Batch.from_data_list(graphs)

        with torch.no_grad():  # the fast way must give what the repository's own function gives
            theirs, mine = graph(first.take(0)), batch(first.take(slice(1)))
            if not torch.equal(theirs.edge_attr, mine.edge_attr) or not torch.equal(
                theirs.x, mine.x
            ):
                raise AssertionError("graphs of CNNs are not those of the repository")
        net = hydra.utils.instantiate(config.model)
        # the script of the transformer asks for cross entropy, that of the graph network for squares
        loss = "bce" if self.name == "transformer" else "mse"
        return Learner(net, lambda net, x: net(batch(x))[:, 0].sigmoid(), rate, loss)

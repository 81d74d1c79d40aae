"""The torch side of the metanet bench: a published network built from its own repository, run on demand.

Run in an interpreter that has torch. One line of JSON comes in: the folder of the checkouts, the peer,
the weight shapes of a plain chain `(in, out, *kernel)`, channels, networks, threads. One line of JSON
goes out: parameters and what was built, or why it was not. Then for every line that comes in a step is
run (zeroed gradients, forward, loss, backward) and its seconds go out.

`matrix` instead of a network: the dense matrix of one linear layer with one channel.
"""

import copy
import json
import sys
import time
import types
from pathlib import Path

import torch

Shapes = list[tuple[int, ...]]


def draw(shapes: Shapes, networks: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Weights `(networks, in, out, *kernel)` and biases `(networks, out)`."""
    weights = [torch.randn(networks, *s) / s[0] ** 0.5 for s in shapes]
    return weights, [torch.randn(networks, s[1]) for s in shapes]


class NFN:
    """Permutation-equivariant layers NP, HNP and attention NFT, behind a pointwise lift to channels."""

    def __init__(self, peers: Path, name: str):
        sys.path.insert(0, str(peers / "nfn"))
        self.name = name

    def features(self, shapes: Shapes, networks: int, channels: int | None):
        from nfn.common import WeightSpaceFeatures

        weights, biases = draw(shapes, networks)
        weights = [w.transpose(1, 2)[:, None] for w in weights]  # (networks, 1, out, in, ...)
        return WeightSpaceFeatures(tuple(weights), tuple(b[:, None] for b in biases))

    def network(self, shapes: Shapes, channels: int, layers: int, networks: int):
        from nfn import layers as nf
        from nfn.common import network_spec_from_wsfeat

        x = self.features(shapes, networks, None)
        spec = network_spec_from_wsfeat(x)
        relu = nf.TupleOp(torch.nn.ReLU())
        parts = [nf.Pointwise(spec, 1, channels)]
        if self.name == "nft":
            parts.append(nf.LearnedPosEmbedding(spec, channels))
        for _ in range(layers):
            if self.name == "nft":
                attention = nf.NPAttention(
                    spec, channels, num_heads=4, share_projections=all(len(s) == 2 for s in shapes)
                )
                norm = nf.SimpleLayerNorm(spec, channels)
                parts.append(nf.ResBlock(attention, relu, 0, norm))
            else:
                layer = {"np": nf.NPLinear, "hnp": nf.HNPLinear}[self.name]
                parts += [layer(spec, channels, channels), relu]
        parts += [nf.HNPPool(spec), torch.nn.Flatten()]
        size = nf.HNPPool.get_num_outs(spec) * channels
        parts += [torch.nn.Linear(size, 4 * channels), torch.nn.ReLU()]
        parts.append(torch.nn.Linear(4 * channels, 1))
        return torch.nn.Sequential(*parts), lambda net: net(x)

    def linear(self, shapes: Shapes):
        """One layer with one channel as a function of flat weights, kernel after kernel then biases."""
        from nfn import layers as nf
        from nfn.common import WeightSpaceFeatures, network_spec_from_wsfeat

        spec = network_spec_from_wsfeat(self.features(shapes, 1, None))
        layer = {"np": nf.NPLinear, "hnp": nf.HNPLinear}[self.name](spec, 1, 1).double()

        def apply(weights, biases):
            x = WeightSpaceFeatures(
                tuple(w.transpose(1, 2)[:, None] for w in weights),
                tuple(b[:, None] for b in biases),
            )
            out = layer(x)
            return [w[:, 0].transpose(1, 2) for w in out.weights], [b[:, 0] for b in out.biases]

        return layer, apply


class DWS:
    """Deep weight space networks, for dense chains of three layers or more."""

    def __init__(self, peers: Path, name: str):
        sys.path.insert(0, str(peers / "DWSNets"))

    def network(self, shapes: Shapes, channels: int, layers: int, networks: int):
        from nn.models import DWSModelForClassification

        weights, biases = draw(shapes, networks)
        x = tuple(w[..., None] for w in weights), tuple(b[..., None] for b in biases)
        net = DWSModelForClassification(
            weight_shapes=tuple(tuple(s) for s in shapes),
            bias_shapes=tuple((s[1],) for s in shapes),
            input_features=1,
            hidden_dim=channels,
            n_hidden=layers - 1,
            n_classes=1,
        )
        return net, lambda net: net(x)

    def linear(self, shapes: Shapes):
        from nn.layers import DWSLayer

        layer = DWSLayer(
            weight_shapes=tuple(tuple(s) for s in shapes),
            bias_shapes=tuple((s[1],) for s in shapes),
            in_features=1,
            out_features=1,
            reduction="mean",
            set_layer="ds",
            init_scale=1.0,
        ).double()

        def apply(weights, biases):
            x = tuple(w[..., None] for w in weights), tuple(b[..., None] for b in biases)
            weights, biases = layer(x)
            return [w[..., 0] for w in weights], [b[..., 0] for b in biases]

        return layer, apply


class NeuralGraphs:
    """The graph network (PNA) and the relational transformer on the neural graph of a dense chain."""

    MODELS = {
        "graph": ("pna", "model.d_hid={c}", "model.gnn_backbone.num_layers={n}"),
        "transformer": (
            "rtransformer",
            "model.d_node={c}",
            "model.d_edge={c}",
            "model.d_attn_hid={c}",
            "model.d_node_hid={c}",
            "model.d_edge_hid={c}",
            "model.d_out_hid={c}",
            "model.n_heads=4",
            "model.n_layers={n}",
        ),
    }

    def __init__(self, peers: Path, name: str):
        self.root, self.name = peers / "neural-graphs", name
        sys.path.insert(0, str(self.root))
        import torch_geometric.utils as utils

        if hasattr(utils, "_trim_to_layer"):  # where the module that they import went
            sys.modules.setdefault("torch_geometric.utils.trim_to_layer", utils._trim_to_layer)

    def network(self, shapes: Shapes, channels: int, layers: int, networks: int):
        import hydra

        model, *settings = self.MODELS[self.name]
        settings = [s.format(c=channels, n=layers) for s in settings]
        folder = (self.root / "experiments/inr_classification/configs").resolve()
        with hydra.initialize_config_dir(version_base=None, config_dir=str(folder)):
            config = hydra.compose("base", overrides=[f"model={model}", *settings])
        config.data.stats = None
        config.model.d_out = 1
        layout = [shapes[0][0], *(s[1] for s in shapes)]
        net = hydra.utils.instantiate(config.model, layer_layout=layout)
        weights, biases = draw(shapes, networks)
        x = tuple(w[..., None] for w in weights), tuple(b[..., None] for b in biases)
        return net, lambda net: net(x)


class ScaleGMN:
    """The positive-scale variants for ReLU networks, forward and in both directions."""

    def __init__(self, peers: Path, name: str):
        self.root, self.name = peers / "scalegmn", name
        sys.path.insert(0, str(self.root))
        data = types.ModuleType(
            "src.data"
        )  # its folder without its data sets, which need much else
        data.__path__ = [str(self.root / "src/data")]
        sys.modules["src.data"] = data

    def network(self, shapes: Shapes, channels: int, layers: int, networks: int):
        import yaml
        from src.scalegmn.models import ScaleGMN as Model
        from src.utils.helpers import update_common_args

        file = {"forward": "scalegmn_relu.yml", "both": "scalegmn_relu_bidir.yml"}[self.name]
        config = yaml.safe_load((self.root / "configs/cifar10" / file).read_text())
        args = config["scalegmn_args"]
        layout = [shapes[0][0], *(s[1] for s in shapes)]
        args["layer_layout"], args["d_hid"], args["num_layers"] = layout, channels, layers
        if all(len(s) == 2 for s in shapes):
            del args["_max_kernel_height"], args["_max_kernel_width"]
        args = update_common_args(config)["scalegmn_args"]
        batch = self.batch(shapes, layout, networks)
        return Model(args), lambda net: net(copy.copy(batch))

    def batch(self, shapes: Shapes, layout: list[int], networks: int):
        from src.data.data_utils import get_node_types
        from torch_geometric.data import Batch, Data

        starts = torch.cumsum(torch.tensor([0, *layout]), 0).tolist()
        index = torch.cat(
            [
                torch.cartesian_prod(torch.arange(a, b), torch.arange(b, c))
                for a, b, c in zip(starts[:-2], starts[1:-1], starts[2:], strict=True)
            ]
        ).T.contiguous()
        numbers = max(int(torch.tensor(s[2:]).prod()) for s in shapes)
        nodes, hidden = sum(layout), torch.zeros(sum(layout), 1, dtype=torch.bool)
        hidden[layout[0] : nodes - layout[-1]] = True
        first = torch.zeros(nodes, 1, dtype=torch.bool)
        first[: layout[0]] = True
        graphs = []
        for _ in range(networks):
            weights, biases = draw(shapes, 1)
            edges = [w[0].flatten(2) if w.ndim > 3 else w[0][..., None] for w in weights]
            edges = [torch.nn.functional.pad(e, (0, numbers - e.shape[-1])) for e in edges]
            x = torch.cat([torch.ones(layout[0], 1), *(b[0][:, None] for b in biases)])
            graphs.append(
                Data(
                    x=x,
                    edge_index=index,
                    bw_edge_index=index.flip(0),
                    edge_attr=torch.cat([e.flatten(0, 1) for e in edges]),
                    node2type=get_node_types(layout),
                    mask_hidden=hidden,
                    mask_first_layer=first,
                    sign_mask=False,
                )
            )
        return Batch.from_data_list(graphs)


PEERS = {
    "nfn np": NFN,
    "nfn hnp": NFN,
    "nfn nft": NFN,
    "dws dws": DWS,
    "neural-graphs graph": NeuralGraphs,
    "neural-graphs transformer": NeuralGraphs,
    "scalegmn forward": ScaleGMN,
    "scalegmn both": ScaleGMN,
}


def matrix(peer, shapes: Shapes, number: int) -> dict:
    """The linear part of a layer as a flat matrix, for so many draws of its parameters.

    The matrix is linear in the parameters: enough draws show the span of all layers of its form.
    """
    layer, apply = peer.linear(shapes)
    sizes = [torch.Size(s).numel() for s in shapes] + [s[1] for s in shapes]
    units = torch.eye(sum(sizes), dtype=torch.float64)
    zero = torch.zeros(1, sum(sizes), dtype=torch.float64)

    def run(flat):
        parts = flat.split(sizes, dim=1)
        weights = [p.reshape(-1, *s) for p, s in zip(parts, shapes)]
        weights, biases = apply(weights, list(parts[len(shapes) :]))
        return torch.cat([y.flatten(1) for y in [*weights, *biases]], dim=1)

    draws = []
    with torch.no_grad():
        for _ in range(number):
            for p in layer.parameters():
                torch.nn.init.normal_(p)
            draws.append((run(units) - run(zero)).T.tolist())
    return {"matrices": draws}


def main() -> None:
    torch.manual_seed(0)
    what = json.loads(sys.stdin.readline())
    torch.set_num_threads(what["threads"])
    shapes = [tuple(s) for s in what["shapes"]]
    out, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer
    try:
        peer = PEERS[what["peer"]](Path(what["peers"]), what["peer"].split()[1])
        if what.get("matrix"):
            print(json.dumps(matrix(peer, shapes, what["matrix"])), file=out, flush=True)
            return
        net, forward = peer.network(shapes, what["channels"], what["layers"], what["networks"])
        loss = torch.mean(torch.square(forward(net)))  # lazy parts are made in the first run
        loss.backward()
    except Exception as e:  # noqa: BLE001 - whatever a peer cannot do is reported, not raised
        reason = f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}"
        print(json.dumps({"skipped": reason[:300]}), file=out, flush=True)
        return
    answer = {"parameters": sum(p.numel() for p in net.parameters()), "torch": torch.__version__}
    print(json.dumps(answer), file=out, flush=True)
    now = {"wall": time.perf_counter, "cpu": time.process_time}[what["clock"]]
    for _ in sys.stdin:
        start = now()
        net.zero_grad(set_to_none=True)
        torch.mean(torch.square(forward(net))).backward()
        print(json.dumps(now() - start), file=out, flush=True)


if __name__ == "__main__":
    main()

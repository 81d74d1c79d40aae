"""Neural functionals (Zhou et al. 2023), from a checkout of `nfn`: NP, HNP, attention (NFT), statistics.

Models come from the repository's own configs, with other widths and depths where they are asked for:

classification  `classify_siren_configs`, the MNIST ones: random Fourier features of the raw weights,
                sinusoidal positions of inputs and outputs (NP), dropout 0.1, an MLP of 1,000
regression      `predict_gen_configs`: HNP on raw weights; NP with learned positions on weights that are
                standardised one by one; statistics of each layer (StatNet). Sigmoid, cross entropy
editing         `stylize_configs`: as classification, changes scaled by a learned 0.01

NFT has no classifier in the repository (the model that its config names is missing); it is the encoder
of its autoencoder (`inr2array_configs`: Fourier features, learned positions, blocks) under the MLP head
of the other classifiers, and it does not edit.
"""

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import torch
from _peers.tasks import Learner, Networks, Shapes, Task, draw

PERCEIVER = "perceiver_pytorch"
MODES = {"np": "np_inv", "hnp": "hnp_inv", "stat": "stat"}


class NFN:
    """What can be built of the repository; `name` is np, hnp, nft or stat."""

    def __init__(self, peers: Path, name: str):
        self.root, self.name = peers / "nfn", name
        sys.path.insert(0, str(self.root))

    def network(self, shapes: Shapes, channels: int, layers: int, networks: int):
        """Plain layers behind a pointwise lift to channels, and how they are run on random networks."""
        from nfn import layers as nf
        from nfn.common import network_spec_from_wsfeat

        x = features(draw(shapes, networks))
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
        """One layer with one channel as a function of weights and biases."""
        from nfn import layers as nf
        from nfn.common import network_spec_from_wsfeat

        spec = network_spec_from_wsfeat(features(draw(shapes, 1)))
        layer = {"np": nf.NPLinear, "hnp": nf.HNPLinear}[self.name](spec, 1, 1).double()
        return layer, lambda weights, biases: changes(layer(features(Networks(weights, biases))))

    def learner(self, task: Task, first: Networks, **options: Any) -> Learner:
        """A network for a task; `options` are set in the config of the model, by dotted names."""
        from nfn.common import network_spec_from_wsfeat

        if task.augment:
            raise NotImplementedError("nfn has no random changes of networks")
        if self.name == "stat" and task.kind != "regression":
            raise NotImplementedError("nfn has statistics for one number only")
        self._import_models()
        x = features(first.take(slice(2)))
        if task.kind == "regression":
            spec = network_spec_from_wsfeat(x)
        else:
            spec = network_spec_from_wsfeat(x, set_all_dims=True)
        if self.name == "nft":
            net, rate = self._transformer(spec, task, first, options)
        else:
            net, rate = self._configured(spec, task, first, options)
        if task.kind == "editing":
            return Learner(net, lambda net, x: changes(net(features(x))), rate)
        if task.kind == "regression":
            return Learner(net, lambda net, x: net(features(x))[:, 0], rate, "bce")
        return Learner(net, lambda net, x: net(features(x)), rate)

    def _import_models(self) -> None:
        """The classifiers import heads that nothing here builds; those may lack their own package."""
        inside = self.root / "experiments/perceiver-pytorch"
        if inside.exists():
            sys.path.append(str(inside))
        if importlib.util.find_spec(PERCEIVER) is None:
            sys.modules[PERCEIVER] = types.ModuleType(PERCEIVER)
            sys.modules[PERCEIVER].Perceiver = None

    def _configured(self, spec, task: Task, first: Networks, options: dict):
        import hydra

        c, n = task.channels, task.layers
        if task.kind == "editing":
            folder, choice = "stylize_configs", {"np": "equiv_io", "hnp": "equiv"}[self.name]
            sizes = {"hidden_chan": c, "hidden_layers": n}
        else:
            if task.kind == "regression":
                folder, choice = "predict_gen_configs", MODES[self.name]
            else:
                folder = "classify_siren_configs"
                choice = {"np": "inv_ff_io_mnist", "hnp": "inv_ff_mnist"}[self.name]
            sizes = {}
        place = (self.root / "experiments" / folder).resolve()
        with hydra.initialize_config_dir(version_base=None, config_dir=str(place)):
            config = hydra.compose("main", overrides=[f"nfnet={choice}"])
        model = config.nfnet
        if "hchannels" in model and (c or n):
            widths = list(model.hchannels)
            model.hchannels = [c] * (n or len(widths)) if c else widths[:1] * n
        if task.kind == "classification":
            sizes = {"head_cls.num_out": task.out}
        _set(model, {k: v for k, v in sizes.items() if v is not None} | options)
        net = hydra.utils.instantiate(model, spec)
        if getattr(net, "normalize", False):
            x = features(first)
            moments = [
                [(a.mean(0), a.std(0, unbiased=False)) for a in b] for b in (x.weights, x.biases)
            ]
            net.set_stats(moments)
        return net, float(config.lr if task.kind == "regression" else config.opt.lr)

    def _transformer(self, spec, task: Task, first: Networks, options: dict):
        from nfn import layers as nf
        from omegaconf import OmegaConf

        from experiments.models import Block, MlpHead

        if task.kind == "editing":
            raise NotImplementedError("nfn edits with linear layers only")
        folder = self.root / "experiments/inr2array_configs"
        model, main = (OmegaConf.load(folder / f) for f in ("model/nft.yaml", "main.yaml"))
        _set(model, options)
        channels = task.channels or 2 * model.enc_map_size
        encode = nf.GaussianFourierFeatureTransform(spec, 1, channels // 2, model.enc_scale)
        blocks = [
            Block(
                spec,
                channels,
                ff_factor=model.ff_factor,
                num_heads=model.num_heads,
                dropout=model.dropout,
                share_projections=not first.convolutional,
            )
            for _ in range(task.layers or model.num_blocks)
        ]
        head = MlpHead(spec, channels, False, num_out=task.out, sigmoid=task.kind == "regression")
        net = torch.nn.Sequential(encode, nf.LearnedPosEmbedding(spec, channels), *blocks, head)
        return net, float(main.lr)


def features(networks: Networks):
    """As the repository has them: `(networks, 1, out, in, *kernel)`."""
    from nfn.common import WeightSpaceFeatures

    weights = tuple(w.transpose(1, 2)[:, None] for w in networks.weights)
    return WeightSpaceFeatures(weights, tuple(b[:, None] for b in networks.biases))


def changes(x) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Undo it."""
    return [w[:, 0].transpose(1, 2) for w in x.weights], [b[:, 0] for b in x.biases]


def _set(config, options: dict) -> None:
    from omegaconf import OmegaConf

    for name, value in options.items():
        OmegaConf.update(config, name, value, force_add=True)

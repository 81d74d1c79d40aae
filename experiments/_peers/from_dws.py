"""DWSNets (Navon et al. 2023), from a checkout of `DWSNets`: dense chains of three layers or more.

As its trainer does: every single weight is standardised by mean and deviation over the training
networks; largest values as reduction, attention over sets, batch norms; learning rate 5e-3. Its random
changes of sine networks (rotation, noise, dropout of weights, scales) come with `augment`. Changes of
weights are what `DWSModel` gives for one channel, added to the weights as they came.
"""

import sys
from pathlib import Path

from _peers.tasks import (
    Learner,
    Networks,
    Shapes,
    Task,
    draw,
    own_augmentation,
    standardised,
    with_channel,
    without_channel,
)

RATE = 5e-3
HIDDEN, LAYERS = 32, 5


class DWS:
    """What can be built of the repository."""

    def __init__(self, peers: Path, name: str):
        sys.path.insert(0, str(peers / "DWSNets"))

    def network(self, shapes: Shapes, channels: int, layers: int, networks: int):
        """A plain classifier of one number, and how it is run on random networks."""
        from nn.models import DWSModelForClassification

        x = with_channel(draw(shapes, networks))
        net = DWSModelForClassification(
            **_shapes(shapes),
            input_features=1,
            hidden_dim=channels,
            n_hidden=layers - 1,
            n_classes=1,
        )
        return net, lambda net: net(x)

    def linear(self, shapes: Shapes):
        """One layer with one channel as a function of weights and biases."""
        from nn.layers import DWSLayer

        layer = DWSLayer(
            **_shapes(shapes),
            in_features=1,
            out_features=1,
            reduction="mean",
            set_layer="ds",
            init_scale=1.0,
        ).double()

        def apply(weights, biases):
            return without_channel(layer(with_channel(Networks(weights, biases))))

        return layer, apply

    def learner(self, task: Task, first: Networks, **options) -> Learner:
        """A network for a task; `options` of the model of the repository, `normalise` among them."""
        from nn.models import DWSModel, DWSModelForClassification

        if first.convolutional:
            raise NotImplementedError("DWSNets reads dense layers only")
        prepare = standardised(first) if options.pop("normalise", True) else lambda x: x
        layers = LAYERS if task.layers is None else task.layers
        common = dict(
            **_shapes(first.shapes), input_features=1, hidden_dim=task.channels or HIDDEN,
            n_hidden=layers - 1, reduction="max", set_layer="sab", bn=True,
        ) | options  # fmt: skip
        change = lambda networks: networks  # noqa: E731 - replaced below
        if task.augment:
            from experiments.data import INRDataset

            change = own_augmentation(INRDataset)
        if task.kind == "editing":
            net = DWSModel(**common, output_features=1)

            def forward(net, x):
                return without_channel(net(with_channel(prepare(x))))
        else:
            net = DWSModelForClassification(**common, n_classes=task.out)

            def forward(net, x):
                out = net(with_channel(prepare(x)))
                return out if task.kind == "classification" else out[:, 0].sigmoid()

        return Learner(net, forward, RATE, "mse", change)


def _shapes(shapes: Shapes) -> dict:
    weights = tuple(tuple(s) for s in shapes)
    return {"weight_shapes": weights, "bias_shapes": tuple((s[1],) for s in shapes)}

"""What a published network is given and asked, whatever repository it comes from."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

Shapes = list[tuple[int, ...]]
"""Weight shapes of a plain chain of layers, `(in, out, *kernel)`."""


class Networks(NamedTuple):
    """Networks of one shape.

    Attributes:
        weights: a layer each, `(networks, in, out, *kernel)`.
        biases: `(networks, out)`.
        tanh: `(networks,)`, whether its activation is odd (tanh) or positive (ReLU); None if unknown.
    """

    weights: list[torch.Tensor]
    biases: list[torch.Tensor]
    tanh: torch.Tensor | None = None

    def take(self, index: Any) -> "Networks":
        tanh = None if self.tanh is None else self.tanh[index]
        return Networks([w[index] for w in self.weights], [b[index] for b in self.biases], tanh)

    def map(self, fn: Callable[[torch.Tensor], torch.Tensor]) -> "Networks":
        return Networks([fn(w) for w in self.weights], [fn(b) for b in self.biases], self.tanh)

    @property
    def shapes(self) -> Shapes:
        return [tuple(w.shape[1:]) for w in self.weights]

    @property
    def layout(self) -> list[int]:
        """Inputs, units of every hidden layer, outputs."""
        return [self.weights[0].shape[1], *(b.shape[1] for b in self.biases)]

    @property
    def convolutional(self) -> bool:
        return any(w.ndim > 3 for w in self.weights)


class Task(NamedTuple):
    """What is asked of a network for networks.

    Attributes:
        kind: "classification" (logits), "regression" (one number in [0, 1]), or "editing" (what is to
            be added to weights and biases).
        out: classes; 1 for a number.
        channels, layers: of the metanetwork; None for what its repository has.
        augment: whether the repository's own random changes of networks are applied in training.
    """

    kind: str
    out: int = 1
    channels: int | None = None
    layers: int | None = None
    augment: bool = False


class Learner(NamedTuple):
    """A published network ready to be trained.

    Attributes:
        net: the module.
        forward: `forward(net, networks)`: logits `(networks, classes)`, numbers in [0, 1]
            `(networks,)`, or changes `(weights, biases)` in the shapes that came in.
        rate: the learning rate that its repository trains it with.
        loss: of numbers: "mse" or "bce", as in its repository.
        change: applied to networks in training before they are read.
    """

    net: torch.nn.Module
    forward: Callable[[torch.nn.Module, Networks], Any]
    rate: float
    loss: str = "mse"
    change: Callable[[Networks], Networks] = lambda networks: networks


def draw(shapes: Shapes, networks: int) -> Networks:
    """Random networks."""
    weights = [torch.randn(networks, *s) / s[0] ** 0.5 for s in shapes]
    return Networks(weights, [torch.randn(networks, s[1]) for s in shapes])


def with_channel(networks: Networks) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
    """`(weights, biases)` with a last axis for channels."""
    x = networks.map(lambda a: a[..., None])
    return tuple(x.weights), tuple(x.biases)


def without_channel(changes: Any) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Undo it."""
    weights, biases = changes
    return [w[..., 0] for w in weights], [b[..., 0] for b in biases]


def standardised(first: Networks) -> Callable[[Networks], Networks]:
    """Subtracts the mean of every single weight over the training networks, divides by its deviation."""

    def moments(a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        deviation = a.std(0)
        return a.mean(0), torch.where(deviation > 0, deviation, 1.0)

    scales = [moments(a) for a in [*first.weights, *first.biases]]

    def change(networks: Networks) -> Networks:
        leaves = [*networks.weights, *networks.biases]
        leaves = [(a - mean) / std for a, (mean, std) in zip(leaves, scales, strict=True)]
        count = len(networks.weights)
        return Networks(leaves[:count], leaves[count:], networks.tanh)

    return change


def layer_statistics(first: Networks) -> dict[str, list[float]]:
    """Mean and deviation of the weights, and of the biases, of each layer."""
    found = {}
    for name, leaves in (("weights", first.weights), ("biases", first.biases)):
        found[f"{name}_mean"] = [a.mean().item() for a in leaves]
        found[f"{name}_std"] = [a.std().item() or 1.0 for a in leaves]
    return found


def own_augmentation(dataset: type) -> Callable[[Networks], Networks]:
    """What a repository's data set does to a network in training, with its default amounts.

    `dataset` has `_augment(weights, biases)` of one network, which reads the amounts off the object.
    """
    blank = object.__new__(dataset)
    for name, parameter in inspect.signature(dataset.__init__).parameters.items():
        if parameter.default is not inspect.Parameter.empty:
            setattr(blank, name, parameter.default)

    def change(networks: Networks) -> Networks:
        weights, biases = [], []
        for i in range(len(networks.biases[0])):
            one = networks.take(i)
            w, b = blank._augment(
                tuple(a.clone() for a in one.weights), tuple(a.clone() for a in one.biases)
            )
            weights.append(w)
            biases.append(b)
        stacked = [
            [torch.stack(layer) for layer in zip(*leaves, strict=True)]
            for leaves in (weights, biases)
        ]
        return Networks(*stacked, networks.tanh)

    return change

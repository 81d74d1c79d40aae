"""The trained networks of a row, and what they are measured on."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from configs.rebasin import Config, Row
from experiments._rebasin.networks import ALPHABET, Network, make_network
from experiments._zoo import data as files
from wsljax import symmetry, train, zoo
from wsljax.understanding.connectivity import mean_value, reset_statistics

MEASURES = {"train_loss": False, "train_accuracy": True, "test_loss": False, "test_accuracy": True}
"""What is measured, and whether more is better."""


class Form(NamedTuple):
    """A network written in some way: its function, its symmetry, and how weights get there."""

    fn: Callable[[Any, jax.Array], jax.Array]
    spec: symmetry.Spec
    bring: Callable[[Any], Any]


class Trained:
    """All networks of a row, `seeds * members` of them, trained side by side; kept in a folder."""

    def __init__(self, row: Row, config: Config, data: Any, folder: Path, quiet: bool):
        self.row, self.config, self.quiet = row, config, quiet
        self.network: Network = make_network(row)
        self.samples = _samples(row, config, data)
        self.train = tuple(jnp.asarray(x) for x in self.samples[:2])
        self.test = tuple(jnp.asarray(x) for x in self.samples[2:4])
        self.measured = (*(x[: config.measured] for x in self.train), *self.test)
        self.stack = self._trained(folder)
        self._forms: dict[str, Form] = {}
        self._values: dict[Any, Any] = {}
        self.adjustments: dict[Any, Any] = {}  # what is compiled serves all seeds
        self.fits: tuple[Any, ...] = ()

    def _trained(self, folder: Path) -> Any:
        row, config, network = self.row, self.config, self.network
        count = config.seeds * row.members
        columns = {name: [value] * count for name, value in row.training.items()}

        def loss(params: Any, _: Any, batch: Any, *, key: jax.Array) -> jax.Array:
            x, y = batch
            return zoo.METRICS["cross_entropy"](network.in_training(params, x), y)

        with train.progress(
            count * row.steps, f"{row.network} {row.width}", enabled=False if self.quiet else None
        ) as bar:
            found = zoo.train(
                lambda _, *, key: network.init(key), loss, self.train,
                columns | {"seed": np.arange(count)}, steps=row.steps, batch_size=row.batch,
                key=jax.random.key(config.seed), folder=folder, log=bar,
            )  # fmt: skip
        if found.columns["diverged"].any():
            raise RuntimeError(f"training diverged: {row.network} {row.width}; lower its rate.")
        if not network.stored:
            return found.params
        settle = eqx.filter_jit(
            lambda p: reset_statistics(network.apply, p, self.statistics).params
        )
        each = [settle(found[i]) for i in range(count)]
        return jax.tree.map(lambda *x: jnp.stack(x), *each)

    def members(self, seed: int) -> list[Any]:
        """The networks of one seed."""
        first = seed * self.row.members
        return [_take(self.stack, i) for i in range(first, first + self.row.members)]

    @property
    def statistics(self) -> jax.Array:
        """Inputs that statistics are taken from."""
        return self.train[0][: self.config.repair]

    @property
    def statistics_chunk(self) -> int | None:
        """How many of them at a time: all, if they are no multiple of what the config says."""
        return None if len(self.statistics) % self.config.chunk else self.config.chunk

    # --------------------------------------------------------------------------------- forms of the network
    def form(self, name: str) -> Form:
        """ "plain" (its permutations), "group" (all that is found), and these two with norms folded."""
        if name not in self._forms:
            self._forms[name] = self._form(name)
        return self._forms[name]

    def _form(self, name: str) -> Form:
        first, x = self.members(0)[0], self.train[0][:8]
        fn, bring = self.network.apply, lambda params: params
        if name.startswith("folded"):
            fn, bring = self._folded.fn, jax.jit(self._folded.fold)
        kinds = None if name.endswith("group") else ("permutation",)
        return Form(fn, symmetry.infer(fn, bring(first), x, kinds=kinds), bring)

    @cached_property
    def _folded(self) -> symmetry.Folded:
        return symmetry.fold_norms(self.network.apply, self.members(0)[0], self.train[0][:8])

    # -------------------------------------------------------------------------------------------- measuring
    def measure(
        self, fn: Callable[[Any, jax.Array], jax.Array]
    ) -> Callable[..., dict[str, jax.Array]]:
        """`value(params, train_x, train_y, test_x, test_y)`, loss and accuracy of both parts."""
        if fn not in self._values:
            self._values[fn] = _measure(fn, self.config.chunk)
        return self._values[fn]

    def loss(self, params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        """The loss that was trained, in evaluation mode."""
        return zoo.METRICS["cross_entropy"](self.network.apply(params, x), y)


def _take(stack: Any, index: int) -> Any:
    return jax.tree.map(lambda x: x[index], stack)


def _measure(fn: Callable, chunk: int) -> Callable[..., dict[str, jax.Array]]:
    def one(params: Any, x: jax.Array, y: jax.Array) -> dict[str, jax.Array]:
        logits = fn(params, x)
        return {name: zoo.METRICS[metric](logits, y) for name, metric in
                (("loss", "cross_entropy"), ("accuracy", "accuracy"))}  # fmt: skip

    def value(params: Any, train_x, train_y, test_x, test_y) -> dict[str, jax.Array]:
        parts = {"train": (train_x, train_y), "test": (test_x, test_y)}
        found = {part: mean_value(one, params, *xy, chunk=chunk) for part, xy in parts.items()}
        return {f"{part}_{name}": v for part, each in found.items() for name, v in each.items()}

    return value


def _samples(row: Row, config: Config, data: Any) -> files.Samples:
    if row.network == "gpt":
        return _characters(row.options.get("length", 32), config.test)
    found = files.images(
        row.dataset, files.data_folder(data), size=row.side, train=row.train, test=config.test
    )
    mean, deviation = found.train_x.mean(), found.train_x.std()
    x, y = ((part - mean) / deviation for part in (found.train_x, found.test_x))
    if row.network == "mlp":
        x, y = (part.reshape(len(part), -1) for part in (x, y))
    return found._replace(train_x=x, test_x=y)


def _characters(length: int, test: int) -> files.Samples:
    """English text and its next characters; the last tenth is the test part."""
    written = files.text()
    common = sorted(set(written), key=lambda c: (-written.count(c), c))[: ALPHABET - 1]
    code = {c: i for i, c in enumerate(common)}
    codes = np.array([code.get(c, ALPHABET - 1) for c in written], np.int32)
    cut, parts = len(codes) * 9 // 10, []
    for piece, step in ((codes[:cut], 2), (codes[cut:], 2)):
        starts = np.arange(0, len(piece) - length - 1, step)
        windows = piece[starts[:, None] + np.arange(length + 1)]
        parts += [windows[:, :-1], windows[:, 1:]]
    source = f"descriptions of scikit-learn, {len(codes)} characters"
    return files.Samples(parts[0], parts[1], parts[2][:test], parts[3][:test], source)

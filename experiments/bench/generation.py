"""Generators: training steps and drawn networks a second, beside the published torch code on the same cores.

`python -m experiments.bench.generation [--peers FOLDER] [--torch-python PYTHON] [--only NAMES]
[--parts PARTS] [--networks N] [--clock wall|cpu] [--out FILE]`. Networks are digit classifiers 64-16-10, of 1,210
weights, random: what is measured does not depend on their values.

p-diff        a 1-D convolutional denoiser of 128 latents, kernel 7, as in p-diff's headline; beside it
              p-diff's own, with its loss, its DDIM sampler and the decoder of its autoencoder. Ours halves the
              length between levels, theirs keeps it
transformer   a transformer over pieces of weights that are prompted by a start and metrics, width 256, 6
              layers; beside it that of G.pt, of the same width, depth and heads, with its loss and sampler.
              Ours has the start beside each piece, theirs as further tokens
equivariant   the denoiser of universal neural functionals, 16 channels, 3 layers; there is no published
              generator of that kind, so nothing stands beside it
flat          the residual perceptron of width 512 that flows of flat weights use; nothing beside it

Parts, in seconds, of which the inverses are steps and networks a second:

train         `step_s`: loss, gradients and a step of AdamW on a batch
sample        `network_s`: for each of the networks drawn by 50 steps, decoding included, compilation not.
              The published code draws `--peer-networks` of them, at once
sharded       the largest difference between samples over all devices and on one; it needs several
              (`XLA_FLAGS=--xla_force_host_platform_device_count=2`)

`--peers` is a folder with checkouts of public repositories under their own names
(`Neural-Network-Diffusion`, `G.pt`); what is not there is left out.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from experiments.bench._metanets_measure import CLOCKS, count, in_turns
from experiments.bench._metanets_worker import Worker
from experiments.bench._report import Report, arguments
from wsljax import symmetry, train
from wsljax.generation import Batch, Diffusion, Generator
from wsljax.generation.autoencoders import ConvolutionAutoencoder, LatentSpace
from wsljax.generation.denoisers import EquivariantDenoiser, FlatDenoiser, FlatUNet
from wsljax.generation.families import g_pt, prompt, updates
from wsljax.generation.processes import VariancePreserving
from wsljax.generation.samplers import DDIM
from wsljax.generation.spaces import FlatSpace, WeightSpace
from wsljax.zoo import Population

PARTS = ("train", "sample", "sharded")
STEPS = 50
SHAPES = {"w0": (64, 16), "b0": (16,), "w1": (16, 10), "b1": (10,)}
AXES = {"w0": "_ h", "b0": "h", "w1": "h _", "b1": "_"}
SCRIPT = Path(__file__).with_name("_generation_torch.py")


class Case(NamedTuple):
    """A generator with a batch to train it on, and what stands beside it.

    Attributes:
        model: ours.
        batch: of training, raw.
        asked: `asked(n)`, the condition of so many networks, or None.
        peer: what the torch side is told, None where there is nothing beside.
    """

    model: Generator
    batch: Batch
    asked: Callable[[int], Any] = lambda n: None
    peer: dict[str, Any] | None = None


def zoo(number: int) -> Population:
    """Random networks, in runs of two."""
    keys = jax.random.split(jax.random.key(0), len(SHAPES))
    params = {n: jax.random.normal(k, (number, *s)) for k, (n, s) in zip(keys, SHAPES.items())}
    columns = {
        "run": jnp.arange(number) // 2,
        "step": jnp.arange(number) % 2,
        "loss": jnp.linspace(1, 0, number),
    }
    return Population(params, columns, symmetry.parse(jax.tree.map(lambda x: x[0], params), AXES))


def p_diff_case(batch: int) -> Case:
    """Latent diffusion; autoencoder and denoiser with weights as they are drawn."""
    population, keys = zoo(batch), jax.random.split(jax.random.key(1))
    inner = FlatSpace.fit(population)
    latent, channels = 128, (64, 128, 256, 256, 32)
    space = LatentSpace(
        autoencoder=ConvolutionAutoencoder(inner.like, latent, channels, key=keys[0]),
        space=inner,
        mean=jnp.zeros(latent),
        deviation=jnp.ones(latent),
        like=jax.ShapeDtypeStruct((latent,), jnp.float32),
    )
    net = FlatUNet(space.like, (64, 128, 256, 512), kernel=7, key=keys[1])
    model = Diffusion(net, space, target="noise", sampler=DDIM(STEPS))
    peer = {
        "peer": "p-diff",
        "latent": latent,
        "kernel": 7,
        "channels": [1, 64, 128, 256, 512, 256, 128, 64, 1],
        "autoencoder": channels,
        "weights": 1210,
    }
    return Case(model, Batch(population.params), peer=peer)


def transformer_case(batch: int) -> Case:
    """G.pt's recipe on pairs of checkpoints, without moving them."""
    population = zoo(2 * batch)
    pairs = updates(population, "loss", key=jax.random.key(1), n=batch)
    size = {"width": 256, "layers": 6, "heads": 8, "pieces": 1000}
    model = g_pt(pairs, key=jax.random.key(2), moved=False, waves=128, steps=STEPS, **size)

    def asked(n: int) -> Any:
        start = jax.tree.map(lambda x: x[jnp.arange(n) % batch], pairs.population.params)
        return prompt(start, jnp.ones(n), 0.0)

    peer = {"peer": "G.pt", "sizes": [1024, 16, 160, 10], **size}
    return Case(model, Batch(pairs.population.params, pairs.condition), asked, peer)


def equivariant_case(batch: int) -> Case:
    population = zoo(batch)
    space = WeightSpace.fit(population)
    net = EquivariantDenoiser(space.spec, 16, 3, key=jax.random.key(1), method="universal")
    return Case(Diffusion(net, space, sampler=DDIM(STEPS)), Batch(population.params))


def flat_case(batch: int) -> Case:
    population = zoo(batch)
    space = FlatSpace.fit(population)
    net = FlatDenoiser(space.like, 512, 2, key=jax.random.key(1))
    path = VariancePreserving.linear()
    model = Diffusion(net, space, path=path, target="v", sampler=DDIM(STEPS))
    return Case(model, Batch(population.params))


CASES: dict[str, tuple[Callable[[int], Case], int, str]] = {
    "p-diff": (p_diff_case, 50, "128 latents, convolutions of 64 to 512 channels"),
    "transformer": (transformer_case, 64, "pieces of 1,000, width 256, 6 layers, 8 heads"),
    "equivariant": (equivariant_case, 64, "universal, 16 channels, 3 layers"),
    "flat": (flat_case, 64, "residual perceptron of width 512, 2 blocks"),
}


class Bench:
    """The parts, over the cases that were asked for."""

    def __init__(self, options: Any):
        self.options, self.report = options, Report(options)
        self.clock: str = options.clock
        self.now = CLOCKS[options.clock]

    def run(self) -> None:
        for name, (make, batch, words) in CASES.items():
            if self.options.only is not None and name not in self.options.only:
                continue
            batch = self.options.batch or batch
            case = make(batch)
            told = f"{name}: {words}, {{}}, {self.options.threads} thread"
            told += "s" * (self.options.threads > 1)
            told += ", processor time" if self.clock == "cpu" else ""
            worker = self._worker(case, batch)
            try:
                if "train" in self.options.parts:
                    self.train(told.format(f"batch {batch}"), case, worker)
                if "sample" in self.options.parts:
                    self.sample(told.format(f"{STEPS} steps"), case, worker)
                if "sharded" in self.options.parts:
                    self.sharded(told.format(f"{STEPS} steps"), case)
            finally:
                if worker is not None:
                    worker.__exit__(None, None, None)

    def _worker(self, case: Case, batch: int) -> Worker | None:
        if case.peer is None or self.options.peers is None:
            return None
        worker = Worker(
            self.options.torch_python,
            script=SCRIPT,
            peers=str(self.options.peers.resolve()),
            batch=batch,
            steps=STEPS,
            threads=self.options.threads,
            clock=self.clock,
            **case.peer,
        )
        if worker.skipped is None:
            return worker
        print(f"{case.peer['peer']}: left out, {worker.skipped}", file=sys.stderr)
        worker.__exit__(None, None, None)
        return None

    def add(self, label: str, metric: str, ours: float, other: float | None, name: Any) -> None:
        self.report.add(label, metric, ours, other, None if other is None else name)

    def train(self, label: str, case: Case, worker: Worker | None) -> None:
        """Loss, gradients and AdamW."""
        trained, kept = eqx.partition(case.model, case.model.trainable())
        batch = case.model.prepare(case.batch)
        optimiser = optax.adamw(1e-3)

        def step(trained: Any, state: Any, batch: Batch, key: jax.Array) -> Any:
            def loss(trained: Any) -> Any:
                return eqx.combine(trained, kept).loss(batch, key=key)

            value, grads = jax.value_and_grad(loss)(trained)
            changes, state = optimiser.update(grads, state, trained)
            return eqx.apply_updates(trained, changes), state, value

        start = self.now()
        arguments_ = trained, optimiser.init(trained), batch, jax.random.key(3)
        program = jax.jit(step).lower(*arguments_).compile()
        compile_s = self.now() - start
        sides: dict[str, Callable[[], float]] = {"ours": self._timed(program, arguments_)}
        name = None
        if worker is not None:
            sides["authors"] = worker.run
            name = f"{case.peer['peer']}, torch {worker.version}" if case.peer else None
        found = in_turns(sides, repeats=self.report.repeats, budget=self.options.budget)
        beside = None if worker is None else worker.parameters
        self.add(label, "parameters", count(trained), beside, name)
        self.add(label, "compile_s", compile_s, None, None)
        other = found.get("authors")
        self.add(label, "step_s", found["ours"], other, name)

    def sample(self, label: str, case: Case, worker: Worker | None) -> None:
        """Many networks, once."""
        n, at_once = self.options.networks, min(self.options.at_once, self.options.networks)

        def draw(arrays: Any, condition: Any) -> Any:
            model = eqx.combine(arrays, rest)
            return model.sample(jax.random.key(4), n, condition=condition, at_once=at_once)

        arrays, rest = eqx.partition(case.model, eqx.is_array)
        asked = case.asked(n)
        program = jax.jit(draw).lower(arrays, asked).compile()
        ours = self._timed(program, (arrays, asked))() / n
        other, name = None, None
        if worker is not None and case.peer is not None:
            some = min(self.options.peer_networks, n)
            other = worker.run(do="sample", networks=some) / some
            name = f"{case.peer['peer']}, {some} at once, torch {worker.version}"
        label = f"{label}, {n} networks of 1,210 weights"
        self.add(label, "network_s", ours, other, name)

    def sharded(self, label: str, case: Case) -> None:
        """Samples over all devices beside those on one."""
        if len(jax.devices()) < 2:
            print("sharded: left out, there is one device", file=sys.stderr)
            return
        n = 2 * len(jax.devices())
        asked = case.asked(n)
        one = case.model.sample(jax.random.key(4), n, condition=asked)
        split = case.model.sample(jax.random.key(4), n, condition=asked, mesh=train.make_mesh())
        off = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), one, split)
        worst = max(float(x) for x in jax.tree.leaves(off))
        label = f"{label}, {n} networks"
        self.add(label, "difference_sharded", worst, None, None)

    def _timed(self, program: Callable, arguments_: tuple) -> Callable[[], float]:
        def run() -> float:
            start = self.now()
            jax.block_until_ready(program(*arguments_))
            return self.now() - start

        return run


def main() -> None:
    def extend(parser):
        parser.add_argument("--peers", type=Path, help="a folder with checkouts of repositories")
        parser.add_argument("--torch-python", default=sys.executable, help="interpreter with torch")
        parser.add_argument("--only", type=_list, help=f"of {', '.join(CASES)}")
        parser.add_argument("--parts", type=_list, default=["train", "sample"], help="of the bench")
        parser.add_argument("--batch", type=int, default=0, help="networks a step; 0: as published")
        parser.add_argument("--networks", type=int, default=1000, help="that are drawn")
        parser.add_argument("--peer-networks", type=int, default=50, help="that the peer draws")
        parser.add_argument("--at-once", type=int, default=100, help="networks in one chunk")
        parser.add_argument("--threads", type=int, default=1, help="of torch; jax: see XLA_FLAGS")
        parser.add_argument("--budget", type=float, default=30.0, help="seconds a comparison")
        parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall")

    options = arguments(__doc__, extend)
    unknown = {*options.parts} - {*PARTS} | {*(options.only or ())} - {*CASES}
    if unknown:
        raise SystemExit(f"{sorted(unknown)}: parts are {PARTS}, cases {tuple(CASES)}")
    begun = time.perf_counter()
    Bench(options).run()
    print(f"{time.perf_counter() - begun:.0f} s", file=sys.stderr)


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


if __name__ == "__main__":
    main()

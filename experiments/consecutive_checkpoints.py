"""What does a generator learn from consecutive checkpoints of one run? p-diff's recipe, beside a Gaussian.

`python -m experiments.consecutive_checkpoints --size cpu` trains one residual network with batch norms, then its
last normalisation layers alone, and stores every step (K. Wang et al., "Neural network diffusion", 2024). p-diff
(an autoencoder, and diffusion of its latents) learns from these checkpoints; so do the trivial baselines, among
them one normal distribution for each weight. The audit says that all networks come from a single run, where
a distance to the nearest checkpoint is no evidence of novelty.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from configs._metanetworks import SIZES
from configs.consecutive_checkpoints import Config, get_config
from configs.rebasin import Row
from experiments._metanetworks.table import report
from experiments._rebasin.networks import Network, make_network
from experiments._zoo import data as sources
from wsljax import train, zoo
from wsljax.generation import evaluation, fit
from wsljax.generation.families import p_diff
from wsljax.understanding.connectivity import reset_statistics

GENERATED = ("scale", "bias")


def run(config: Config, *, data: Any, command: str, quiet: bool, out: Path) -> dict[str, Any]:
    """The study; returns what is written to `results.json`."""
    keys = jax.random.split(jax.random.key(config.seed), 4)
    images = sources.images(
        config.dataset, sources.data_folder(data), train=config.train, test=config.test
    )
    network = make_network(
        Row("resnet", config.width, {"norm": "batch"}, side=images.train_x.shape[1])
    )
    mean, deviation = images.train_x.mean(), images.train_x.std()
    x, test_x = (
        jnp.asarray((part - mean) / deviation, jnp.float32)
        for part in (images.train_x, images.test_x)
    )
    y, test = jnp.asarray(images.train_y), (test_x, jnp.asarray(images.test_y))
    params = _trained(network, x, y, config, keys[0])
    snapshots = _checkpoints(network, params, x, y, config, keys[1])
    learn = _part(snapshots, slice(None, config.checkpoints))
    later = _part(snapshots, slice(config.checkpoints, None))
    began = time.perf_counter()
    leaves = [f"{layer}/{name}" for layer in config.layers for name in GENERATED]
    generator = p_diff(learn, key=keys[2], leaves=leaves, **config.p_diff)
    rate = optax.warmup_cosine_decay_schedule(
        0.0, config.fit_rate, max(1, config.fit_steps // 10), max(2, config.fit_steps)
    )
    with train.progress(config.fit_steps, "p-diff", enabled=False if quiet else None) as bar:
        generator = fit(
            generator, learn, steps=config.fit_steps, batch_size=config.fit_batch,
            optimiser=optax.adamw(rate), key=keys[3], average=0.99, log=bar,
        ).generator  # fmt: skip
    seconds = time.perf_counter() - began
    found = evaluation.compare(
        {"checkpoints, the training set": learn, "p-diff": generator}, learn, later, key=keys[3],
        count=config.drawn, data=test, function=network.apply, resamples=config.resamples,
        diversity=min(64, config.held_out),
    )  # fmt: skip
    rows = {
        name: {
            "values": {n: [float(v) for v in value] for n, value in kept.values.items()},
            "flags": list(kept.flags),
        }
        for name, kept in found.reports.items()
    }
    if not quiet:
        columns = (
            "quality/accuracy mean", "quality/accuracy best", "weights/ratio", "predictions/wrong overlap",
        )  # fmt: skip
        print(found.table(tuple(c for c in columns if c in next(iter(rows.values()))["values"]), 4))
    about = dataclasses.asdict(config) | {
        "generated": _count(snapshots, config),
        "seconds": seconds,
    }
    clean = json.loads(json.dumps(rows).replace("NaN", "null").replace("-Infinity", "null")
                       .replace("Infinity", "null"))  # fmt: skip
    return report(out / "results.json", command=command, about=about, rows=clean)


def _part(snapshots: Any, steps: slice) -> zoo.Population:
    """Some of the checkpoints, all of run 0."""
    params = jax.tree.map(lambda v: v[steps], snapshots)
    count = len(jax.tree.leaves(params)[0])
    return zoo.Population(params, {"run": jnp.zeros(count, jnp.int32)})


def _count(snapshots: Any, config: Config) -> int:
    """Weights that are generated."""
    return sum(snapshots[n][g][0].size for n in config.layers for g in GENERATED)


def _batches(x: jax.Array, y: jax.Array, steps: int, size: int, key: jax.Array) -> Any:
    """Batches drawn epoch by epoch, `(steps, size, ...)` as row numbers."""
    epochs = -(-steps * size // (len(x) // size * size))
    orders = jax.vmap(lambda k: jax.random.permutation(k, len(x)))(jax.random.split(key, epochs))
    whole = len(x) // size * size
    return orders[:, :whole].reshape(-1, size)[:steps]


def _fit(
    network: Network, params: Any, x: Any, y: Any, rows: Any, rate: Any, chosen: Any, keep: bool
):
    """Adam over batches; `(params, every step's params or None)`."""
    optimiser = optax.adam(rate)

    def loss(params: Any, row: jax.Array) -> jax.Array:
        said = network.in_training(params, x[row])
        return optax.softmax_cross_entropy_with_integer_labels(said, y[row]).mean()

    def step(carry: Any, row: jax.Array) -> Any:
        params, state = carry
        slope = jax.tree.map(lambda g, c: jnp.where(c, g, 0), jax.grad(loss)(params, row), chosen)
        updates, state = optimiser.update(slope, state)
        params = optax.apply_updates(params, updates)
        return (params, state), params if keep else None

    start = params, optimiser.init(params)
    (params, _), every = jax.jit(lambda c: jax.lax.scan(step, c, rows))(start)
    return params, every


def _trained(network: Network, x: Any, y: Any, config: Config, key: jax.Array) -> Any:
    """The whole network, and then the statistics of its batch norms over all training images."""
    init_key, batch_key = jax.random.split(key)
    params = network.init(init_key)
    rows = _batches(x, y, config.steps, config.batch, batch_key)
    rate = optax.cosine_decay_schedule(config.learning_rate, config.steps)
    every = jax.tree.map(lambda _: True, params)
    params, _ = _fit(network, params, x, y, rows, rate, every, keep=False)
    return reset_statistics(network.apply, params, x[:1000]).params


def _checkpoints(network: Network, params: Any, x: Any, y: Any, config: Config, key: Any) -> Any:
    """Every step of the chosen layers; nothing else changes."""
    still = jax.tree.map(lambda _: False, params)
    for layer in config.layers:
        still[layer] |= {name: True for name in GENERATED}
    count = config.checkpoints + config.held_out
    rows = _batches(x, y, count, config.batch, key)
    frozen = Network(network.init, network.apply, network.apply)  # stored statistics stay
    return _fit(frozen, params, x, y, rows, config.rate_after, still, keep=True)[1]


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="experiments.consecutive_checkpoints", description=__doc__
    )
    parser.add_argument("--size", choices=SIZES, default="cpu")
    parser.add_argument("--out", type=Path, help="default runs/consecutive_checkpoints/<size>")
    parser.add_argument("--data", help="a folder with mnist/, fashion_mnist/")
    parser.add_argument("--quiet", action="store_true")
    given = parser.parse_args(arguments)
    out = given.out or Path("runs") / "consecutive_checkpoints" / given.size
    command = f"python -m experiments.consecutive_checkpoints --size {given.size}"
    command += " --data FOLDER" if given.data else ""
    return run(get_config(given.size), data=given.data, command=command, quiet=given.quiet, out=out)


if __name__ == "__main__":
    main()

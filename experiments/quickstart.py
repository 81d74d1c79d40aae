"""Predict how good a network is from its weights alone, on real digits, from nothing.

`python -m experiments.quickstart` trains a population of small digit classifiers as one vmapped,
scanned computation, infers the symmetry of their weights from the function they compute, trains an
equivariant metanetwork that predicts each network's test accuracy, and compares it with baselines on
held-out networks. At last it learns from good ones by diffusion, draws new digit classifiers, and shows
how good and how new they are beside trained ones and trivial baselines. `--help` lists every option. An
interrupted run resumes from its folder.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from configs.quickstart import Config, get_config
from experiments._digit_zoo import (
    ACTIVATIONS,
    apply_network,
    draw_hyper,
    init_network,
    network_loss,
    network_metrics,
)
from experiments._digits import load_digits
from experiments._predictors import AccuracyNet, FlatNet, Scale
from experiments._quickstart_generation import generate, rows_of
from experiments._quickstart_report import figure, generated_table, table
from wsljax import symmetry, train, zoo
from wsljax._compat import require
from wsljax.representation.baselines.predictors import fit_trees
from wsljax.representation.baselines.statistics import statistics

OURS, FLAT = "equivariant metanetwork", "MLP on the flattened weights"


def main(config: Config) -> dict[str, Any]:
    """Run the study; returns what `results.json` holds."""
    start, folder = time.time(), Path(config.folder)
    _claim(folder, config)
    key = jax.random.key(config.seed)
    population = _population(config, folder, key)
    spec = _infer(population, config)
    population = population.with_spec(spec)

    accuracy = jnp.asarray(population.columns["accuracy"])
    parts = zoo.split(len(population), key=jax.random.fold_in(key, 1))
    data = {
        name: (population.take(index).params, accuracy[index])
        for name, index in zip(("train", "validation", "test"), parts, strict=True)
    }
    scale = Scale.of(data["train"][1])
    first = jax.tree.map(lambda x: x[:512], data["train"][0])
    keys = jax.random.split(jax.random.fold_in(key, 2), 2)
    nets = {
        OURS: AccuracyNet(
            spec, first, channels=config.channels, layers=config.layers, dropout=config.dropout,
            key=keys[0],
        ),
        FLAT: FlatNet(data["train"][0], dropout=config.dropout, key=keys[1]),
    }  # fmt: skip
    fitted = {name: _fit(name, net, data, scale, config, folder, key) for name, net in nets.items()}

    predict = eqx.filter_jit(lambda net, params: scale.back(jax.vmap(net)(params)))
    test, truth = data["test"]
    predictions = {name: np.asarray(predict(net, test)) for name, net in fitted.items()}
    for name, definition in (
        ("per-layer statistics, boosted trees", "google"),
        ("7 global statistics, boosted trees", "global"),
    ):
        _say(config, f"fitting trees on {name.split(',')[0]}")
        stats = {part: statistics(params, definition) for part, (params, _) in data.items()}
        trees = fit_trees(
            stats["train"], data["train"][1], key=jax.random.fold_in(key, 5),
            validation=(stats["validation"], data["validation"][1]),
        )  # fmt: skip
        predictions[name] = trees(stats["test"])

    elements = jax.vmap(spec.sample)(jax.random.split(jax.random.fold_in(key, 3), len(truth)))
    permuted = jax.jit(jax.vmap(spec.act))(elements, test)
    moved = {name: np.asarray(predict(net, permuted)) for name, net in fitted.items()}
    invariance = {
        name: float(np.max(np.abs(moved[name] - predictions[name])) / np.std(predictions[name]))
        for name in fitted
    }
    rows = {name: _score(p, truth, config) for name, p in predictions.items()}

    _say(config, "learning to draw networks like the good ones")
    with _progress(config, config.steps, "diffusion") as bar:
        found = generate(population, load_digits(), config, jax.random.fold_in(key, 6), log=bar)
    generated = rows_of(found)
    picture = folder / "quickstart.png"
    figure(picture, np.asarray(truth), predictions, moved, rows, found, generated)
    results = {
        "command": "python -m experiments.quickstart",
        "config": dataclasses.asdict(config),
        "networks": {part: len(data[part][1]) for part in data},
        "accuracy_quantiles": np.quantile(np.asarray(accuracy), [0, 0.25, 0.5, 0.75, 1]).tolist(),
        "rows": rows,
        "change_under_permutation": invariance,
        "generated": generated,
        "flags": {name: list(report.flags) for name, report in found.reports.items()},
        "seconds": time.time() - start,
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
    }
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    print("\n" + table(rows, invariance) + "\n\n" + generated_table(generated))
    print(f"\n{results['seconds']:.0f} s; figure: {picture}; results: {folder / 'results.json'}")
    return results


def _population(config: Config, folder: Path, key: jax.Array) -> zoo.Population:
    """Train the digit classifiers, or go on where an interrupted run stopped."""
    digits = load_digits()
    hyper = draw_hyper(config.networks, max_steps=config.max_steps, seed=config.seed)
    sizes = (digits.train_x.shape[1], *config.widths, 10)
    _say(config, f"training {config.networks} networks {sizes} on {len(digits.train_x)} digits")
    work = zoo.total_work(hyper, chunk=256)
    with _progress(config, work, "networks") as bar:
        population = zoo.train(
            functools.partial(init_network, sizes=sizes), network_loss,
            (digits.train_x, digits.train_y), hyper, key=key, batch_size=config.network_batch,
            labels={"activation": ACTIVATIONS}, chunk=256, folder=folder / "zoo", log=bar,
        )  # fmt: skip
    population = zoo.evaluate(population, network_metrics, digits.test_x, digits.test_y)
    accuracy = np.asarray(population.columns["accuracy"])
    quantiles = " ".join(
        f"{q:.2f}" for q in np.quantile(accuracy, [0, 0.1, 0.25, 0.5, 0.75, 0.9, 1])
    )
    _say(config, f"test accuracies, quantiles 0 10 25 50 75 90 100: {quantiles}")
    return population


def _infer(population: zoo.Population, config: Config) -> symmetry.Spec:
    """The symmetry of the networks, from the function they compute; nothing written by hand."""
    image = jax.ShapeDtypeStruct((1, population[0]["dense_0"]["kernel"].shape[0]), jnp.float32)
    code = jax.ShapeDtypeStruct((), jnp.int32)
    spec = symmetry.infer(apply_network, population[0], image, code, kinds=("permutation",))
    _say(config, f"inferred from the apply function:\n{spec}\n")
    return spec


def _fit(name: str, net, data, scale: Scale, config: Config, folder: Path, key: jax.Array):
    """Train one predictor, seeing training networks only; validation is logged, test untouched."""

    def loss(net, batch, *, key):
        params, accuracy = batch
        keys = jax.random.split(key, (2, len(accuracy)))
        noise = jax.vmap(functools.partial(_noise, size=config.noise))(params, keys[0])
        score = jax.vmap(net)(params, noise, keys[1])
        return jnp.mean((score - scale.forward(accuracy)) ** 2)

    score = eqx.filter_jit(lambda net, params: scale.back(jax.vmap(net)(params)))

    def evaluate(net):
        params, accuracy = data["validation"]
        predicted = score(net, params)
        return {"r2": train.r2(predicted, accuracy), "tau": train.kendall_tau(predicted, accuracy)}

    schedule = optax.warmup_cosine_decay_schedule(
        0, config.learning_rate, config.steps // 10, config.steps
    )
    optimiser = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=config.weight_decay)
    )
    _say(config, f"training the {name}")
    stage = name.split()[0].lower()
    with _progress(config, config.steps, name) as bar, train.Checkpointer(folder / stage) as saved:
        result = train.fit(
            loss, net, data["train"], steps=config.steps, batch_size=config.batch,
            optimiser=optimiser, key=jax.random.fold_in(key, 4), every=config.every,
            evaluate=evaluate, average=0.99, checkpointer=saved,
            log=train.combine_logs(bar, train.JsonlWriter(folder / "metrics.jsonl", stage=stage)),
        )  # fmt: skip
    return result.model


def _noise(params: Any, key: jax.Array, *, size: float) -> Any:
    leaves, treedef = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    draws = [
        1 + size * jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(treedef, draws)


def _score(prediction, truth, config: Config) -> dict[str, tuple[float, float, float]]:
    key = jax.random.key(config.seed)
    columns = jnp.asarray(prediction, jnp.float32), truth
    measures: dict[str, Callable] = {"r2": train.r2, "tau": train.kendall_tau}
    return {
        name: tuple(map(float, train.bootstrap(fn, *columns, key=key, resamples=config.resamples)))
        for name, fn in measures.items()
    }


def _claim(folder: Path, config: Config) -> None:
    """Make the run folder; one that holds another run's config is left alone."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "config.json"
    mine = {k: v for k, v in dataclasses.asdict(config).items() if k not in ("folder", "quiet")}
    mine = json.loads(json.dumps(mine))
    if file.exists() and json.loads(file.read_text()) != mine:
        raise SystemExit(
            f"{folder} holds a run with other options ({file}); give another --folder, or remove it"
        )
    file.write_text(json.dumps(mine, indent=1) + "\n")


def _progress(config: Config, total: int, label: str):
    return train.progress(total, label, enabled=False if config.quiet else None)


def _say(config: Config, text: str) -> None:
    if not config.quiet:
        print(text, flush=True)


if __name__ == "__main__":
    require("tyro", extra="experiments")
    require("matplotlib", extra="experiments")
    import tyro

    main(tyro.cli(Config, default=get_config(), description=__doc__))
    sys.exit(0)

"""How well does a convolutional network generalise, whatever its architecture? From its weights alone.

`python -m experiments.mixed_generalisation --size cpu` trains networks of 2 to 8 layers, 4 to 64
channels, kernels of 3, 5 and 7, with and without residuals, of several activations. One graph
metanetwork reads all of them, mixed in batches of one size under one compiled program. Two tables of R2
and Kendall's tau (`--unseen`): on runs that were not seen, of architectures that were; and on
architectures that were not. Beside them stand weight statistics (padded to the deepest network, as
Kofinas et al. 2024 do it, or counted from the last layer) and hyperparameters, architecture included,
with plain predictors.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from configs.mixed_generalisation import UNSEEN, Config, get_config
from experiments._metanetworks import success
from experiments._metanetworks.graphs import learn_graphs
from experiments._metanetworks.learn import regression
from experiments._metanetworks.study import DATASETS, command_line
from experiments._metanetworks.table import report, run_rows, text
from experiments.build_zoo import CONFIGS, build, load_config
from wsljax import representation, train, zoo
from wsljax.representation.baselines.evaluate import PREDICTORS, hyper_features
from wsljax.representation.baselines.statistics import statistics


def run(config: Config, folder: Path, *, data: Any, command: str, quiet: bool) -> dict[str, Any]:
    """The study; returns what is written to `results.json` in the folder."""
    populations = _populations(config, folder / "zoos", data=data, quiet=quiet)
    sizes = representation.Sizes(positions=config.positions)
    networks = representation.HeterogeneousPopulation(populations, sizes=sizes)
    features = features_of(populations, networks)
    tables, abouts = {}, {}
    for name in config.unseen:
        split = _split(populations, config, hold_out=name == "architectures")
        abouts[name] = {
            "dataset": config.dataset, "zoo": config.zoo, "size": config.zoo_size,
            "changes": dict(config.changes), "target": config.target, "seed": config.seed,
            "networks": len(networks), "architectures": len(populations), "unseen": name,
            "weights": [success.weights_of(p) for p in populations],
            "split": [len(part) for part in split], "positions": config.positions,
            "training": config.training.told(),
        }  # fmt: skip
        if not quiet:
            print(f"\nunseen {name}", flush=True)
        tables[name] = _table(
            config, networks, features, split, folder / name, abouts[name], quiet=quiet
        )
        if not quiet:
            print(text(tables[name], ("r2", "tau")), flush=True)
    return report(folder / "results.json", command=command, about=abouts, rows=tables)


def _table(config, networks, features, split, folder: Path, about, *, quiet) -> dict[str, Any]:
    truth = np.asarray(networks.columns[config.target], np.float32)
    scale = success.scale_of(truth[split.train])
    training = config.training

    def one(entry, seed):
        with train.progress(training.steps, entry.method, enabled=False if quiet else None) as bar:
            found = learn_graphs(
                entry, networks, split, config.target, regression(scale), training,
                seed=seed, log=bar,
            )  # fmt: skip
        guess = success.guesses(found.answers, scale)
        return {
            "scores": found.scores, "parameters": found.parameters, "seconds": found.seconds,
            "history": found.history,
            "intervals": success.intervals(guess, truth[split.test], config.seed),
        }  # fmt: skip

    rows = run_rows(
        config.rows, training.seeds, one, folder / "rows.jsonl", about=about, quiet=quiet
    )
    return rows | success.plain_rows(
        folder / "baselines.json",
        about,
        lambda: _fit_plain(features, truth, split, config.predictors, config.seed),
    )


def features_of(
    populations: Sequence[zoo.Population], networks: representation.HeterogeneousPopulation
) -> dict[str, np.ndarray]:
    """What plain predictors see of networks of any architectures, `(networks, features)` each."""
    roles = dict(populations[0].roles)
    words = [name for name in networks.columns if roles.get(name) == "hyper"]
    columns = zoo.Population({"none": np.zeros((len(networks), 1))}, networks.columns,
                             labels=networks.labels)  # fmt: skip
    counts = [len(p) for p in populations]
    architecture = np.repeat(np.stack([_described(p) for p in populations]), counts, axis=0)
    padded = np.asarray(statistics(populations, "google"))
    back = [np.asarray(statistics(p, "google"))[:, ::-1] for p in populations]
    width = max(x.shape[1] for x in back)
    back = np.concatenate([np.pad(x, ((0, 0), (0, width - x.shape[1]))) for x in back])
    return {
        "architecture": architecture,
        "hyperparameters": np.concatenate([hyper_features(columns, words), architecture], axis=1),
        "7 global statistics": np.asarray(statistics(populations, "global")),
        f"{width} statistics, padded": padded,
        f"{width} statistics, from the last layer": back,
    }


def _described(population: zoo.Population) -> np.ndarray:
    """The architecture of a population of CNNs in a few numbers."""
    settings = population.function.settings
    names = ("relu", "gelu", "tanh", "sigmoid")
    channels = np.log(settings["channels"])
    residuals = sum(source >= 0 for source in settings["residual"])
    numbers = [
        len(channels), channels.mean(), channels[-1], np.mean(settings["kernel"]), residuals,
        np.log(success.weights_of(population)),
    ]  # fmt: skip
    numbers += [settings["activation"] == name for name in names]
    return np.array(numbers, np.float32)


def _fit_plain(
    features: Mapping[str, np.ndarray], truth: np.ndarray, split: zoo.Split,
    predictors: Sequence[str], seed: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """Every predictor on every set of features, as `representation.evaluate_baselines` gives them."""
    rows, key = [], jax.random.key(seed)
    for name, x in features.items():
        first, second, third = ((x[part], truth[part]) for part in split)
        for label in predictors:
            predictor = PREDICTORS[label](*first, key=key, validation=second)
            found = representation.score(jnp.asarray(predictor(third[0])), third[1], key=key)
            intervals = {metric: [float(v) for v in found[metric]] for metric in found}
            rows.append({"features": name, "predictor": label, **intervals})
    return rows


def _populations(config: Config, folder: Path, *, data: Any, quiet: bool) -> list[zoo.Population]:
    """The architectures, each with its networks that are finite."""
    made = load_config(CONFIGS / f"{config.zoo}.py", config.zoo_size)
    options = {**made.options, "dataset": config.dataset}
    made = dataclasses.replace(made, **{**config.changes, "options": options, "seed": config.seed})
    place = folder / f"{config.zoo}_{config.zoo_size}_{config.dataset}_seed{config.seed}"
    build(made, place, data=data, quiet=quiet)
    found = [zoo.open(place / part / "networks", check=0).population() for part in made.parts]
    return [success.usable(p) for p in found]


def _split(populations: Sequence[zoo.Population], config: Config, hold_out: bool) -> zoo.Split:
    """Rows of all networks, numbered through all populations."""
    parts = zoo.split_populations(
        populations, config.fractions, key=jax.random.key(config.seed), hold_out=hold_out
    )
    starts = np.cumsum([0, *(len(p) for p in populations[:-1])])
    return zoo.Split(
        *(np.concatenate([part + at for part, at in zip(same, starts, strict=True)])
          for same in zip(*parts, strict=True))
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """The command line."""
    return command_line(
        "mixed_generalisation", __doc__, get_config, run, arguments, datasets=DATASETS,
        several={"unseen": UNSEEN},
    )  # fmt: skip


if __name__ == "__main__":
    main()

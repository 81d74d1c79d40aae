"""One zoo: trained a chunk at a time, measured, stored; after a kill it goes on where it was.

What is stored is counted in `progress.json` after each piece. A piece that was stored but not counted
is made again, which gives the same networks, and only what is missing of it is stored.
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from configs.zoo._config import ZooConfig
from experiments._zoo.choose import make_task
from experiments._zoo.descend import METHODS, descend, last_of_runs
from experiments._zoo.hyper import draw_hyper
from wsljax import train, zoo
from wsljax.zoo import store


class Builder:
    """What the pieces of a zoo share: function, task, hyperparameters, folder."""

    def __init__(self, config: ZooConfig, folder: Path, data: Path | None, *, quiet: bool):
        self.config, self.folder, self.quiet = config, folder, quiet
        self.key = jax.random.key(config.seed)
        task = {"models": config.models, "seed": config.seed}
        self.task = make_task(config.task, config.options, data, **task)
        options = config.options if config.pretrain is None else config.pretrain
        self.first_task = make_task(config.task, options, data, **task)
        self.function = self._function(data)
        self.hyper = draw_hyper(config.hyper, config.models, seed=config.seed)
        if self.task.own is not None:
            self.hyper[self.task.own[0]] = np.arange(config.models) % self.task.count
        self.tests = [self.task.evaluation("test", config.metrics)]
        if self.task.train is not None:
            self.tests.append(self.task.evaluation("train", config.metrics, config.measured))

    @property
    def zoo_folder(self) -> Path:
        return self.folder / "networks"

    def build(self) -> store.StoredZoo:
        """Make what is missing, and open the whole, which runs some networks again."""
        done = read_progress(self.folder)
        if len(done) == self._count() and (self.zoo_folder / "index.json").exists():
            kept = store.open(self.zoo_folder)
            if kept.complete:  # nothing is written, so that many may open it at a time
                return kept
        writer, stored = self._writer(), 0
        if (self.zoo_folder / "index.json").exists():
            stored = len(store.open(self.zoo_folder, check=0))
        with writer:
            started = time.perf_counter()
            for population in self._pieces(len(done)):
                total = (done[-1]["rows"] if done else 0) + len(population)
                population = self._completed(population)
                missing = max(0, total - stored)
                if missing:
                    writer.write(population.take(np.arange(len(population))[-missing:]))
                    writer.flush()
                seconds, started = time.perf_counter() - started, time.perf_counter()
                runs = len(np.unique(np.asarray(population.columns["run"])))
                done = [*done, {"rows": total, "runs": runs, "seconds": seconds}]
                _write_progress(self.folder, done)
        shutil.rmtree(self.folder / "training", ignore_errors=True)
        return store.open(self.zoo_folder)

    def steps(self, epochs: float, batch_size: int | None, samples: int) -> int:
        """Steps of so many passes over the data."""
        return round(epochs * math.ceil(samples / (batch_size or samples)))

    # ------------------------------------------------------------------------------ the pieces
    def _count(self) -> int:
        """How many pieces there are in all."""
        config = self.config
        networks = [config.models, *(config.models * way.copies for way in config.descend)]
        return sum(math.ceil(n / config.chunk) for n in networks)

    def _pieces(self, skip: int) -> Iterator[zoo.Population]:
        """All pieces but the first `skip`, in an order that is always the same."""
        config = self.config
        count = math.ceil(config.models / config.chunk)
        yield from self._trained(min(skip, count))
        runs = config.models
        for number, way in enumerate(config.descend):
            skip, count = max(0, skip - count), math.ceil(config.models * way.copies / config.chunk)
            if skip < count:
                yield from self._descended(way, number, runs, skip)
            runs += config.models * way.copies

    def _trained(self, skip: int) -> Iterator[zoo.Population]:
        config, task, samples = self.config, self.first_task, self.first_task.samples
        length = config.steps
        snapshots = [int(step) for step in config.snapshots]
        if length is None:
            length = self.steps(config.epochs, config.batch_size, samples)
            snapshots = [self.steps(e, config.batch_size, samples) for e in config.snapshots]
        work = length * config.models
        with self._bar(work, config.name) as bar:
            for population in zoo.train_chunks(
                self.function, task.loss(self.function, config.loss), task.shared, self.hyper,
                key=self.key, steps=length, batch_size=config.batch_size, own=task.own,
                snapshots=snapshots, stop=self._stop(), chunk=config.chunk, skip=skip, log=bar,
                folder=self.folder / "training" / "first",
            ):  # fmt: skip
                yield self._placed(population)

    def _descended(self, way, number: int, start: int, skip: int) -> Iterator[zoo.Population]:
        """Copies of the trained networks, which are all stored by now."""
        config, runs = self.config, np.arange(self.config.models)
        stored = store.open(self.zoo_folder, check=0)
        columns = {name: stored.columns[name] for name in ("run", "step")}
        rows = last_of_runs(**columns)
        rows = rows[np.isin(columns["run"][rows], runs)]
        steps = self.steps(way.epochs, config.batch_size, self.task.samples)
        with self._bar(steps * len(rows) * way.copies, f"{config.name}, {way.method}") as bar:
            yield from descend(
                way, stored.take(rows), rows, self.function, config.loss, self.task.shared,
                key=self.key, steps=steps, batch_size=config.batch_size, start=start,
                seed=config.seed, hyper=list(self.hyper), chunk=config.chunk, skip=skip,
                folder=self.folder / "training" / f"{way.method}_{number}", log=bar,
            )  # fmt: skip

    def _placed(self, population: zoo.Population) -> zoo.Population:
        """Rows of parents counted from the first network of the zoo; columns of copies."""
        progress = read_progress(self.folder)
        before = progress[-1]["rows"] if progress else 0
        parent = np.asarray(population.columns["parent"])
        added = {"parent": np.where(parent < 0, -1, parent + before).astype(np.int32)}
        if self.config.descend:
            added["method"] = np.zeros(len(population), np.int32)
            added["zeros"] = np.zeros(len(population), np.float32)
        return population.with_columns(added)

    # ------------------------------------------------------------------- what is known of them
    def _completed(self, population: zoo.Population) -> zoo.Population:
        """With metrics, what the task says of itself, the function and its spec."""
        task, added, roles = self.task, {}, {}
        for evaluation in self.tests:
            added |= evaluation.measure(population, chunk=self._at_once(evaluation))
        if task.binary:
            added["iou"] = self._overlap(population)
        if "mse" in added and "psnr" not in added:  # which is of signals of range 1
            added["psnr"] = 10 * np.log10(task.span**2 / np.maximum(added["mse"], 1e-12))
        roles |= {name: "metric" for name in added}
        if task.own is not None:
            which = np.asarray(population.columns[task.own[0]])
            added |= {name: np.asarray(c)[which] for name, c in task.columns.items()}
        if "zeros" in population.columns:
            roles |= {"zeros": "metric", "method": "hyper"}
        labels = dict(task.labels) | ({"method": METHODS} if self.config.descend else {})
        added = {name: np.asarray(column) for name, column in added.items()}
        added = {n: c.astype(np.float32) if c.dtype.kind == "f" else c for n, c in added.items()}
        return population.with_columns(added, labels, roles).with_spec(self.spec(population))

    def spec(self, population: zoo.Population) -> Any:
        """The symmetry of one network; inferred once, and then what is stored."""
        if not hasattr(self, "_spec"):
            index = self.zoo_folder / "index.json"
            kept = store.open(self.zoo_folder, check=0).spec if index.exists() else None
            self._spec = kept or self.function.infer(population[0])
        return self._spec

    def _overlap(self, population: zoo.Population) -> np.ndarray:
        """Intersection over union of what is inside, for networks whose outputs are logits."""
        inputs, targets = map(jnp.asarray, self.task.test)
        column = self.task.own[0]

        def run(models, inputs, targets):
            params, which = models
            outputs = self.function.apply_all(params, inputs, {}) > 0
            inside = targets[which] > 0.5
            both, any_ = outputs & inside, outputs | inside
            axes = tuple(range(1, both.ndim))
            return both.sum(axes) / jnp.maximum(any_.sum(axes), 1)

        models = (population.params, np.asarray(population.columns[column]))
        return np.asarray(zoo.map_chunks(run, models, inputs, targets, chunk=32))

    def _at_once(self, evaluation: zoo.Evaluation) -> int:
        """Networks measured together, so that what they compute stays below a gigabyte or so."""
        return int(np.clip(2**30 // (256 * np.size(evaluation.inputs)), 1, 256))

    # ------------------------------------------------------------------------------- the parts
    def _function(self, data: Path | None) -> zoo.Function:
        config = self.config
        if config.base is None:
            return zoo.Function(config.architecture, config.settings)
        base = config.base
        task = make_task(base.task, base.options, data, models=1, seed=config.seed)
        function = zoo.Function(base.architecture, base.settings)
        hyper = {
            "seed": [config.seed], "learning_rate": [base.learning_rate], "schedule": ["cosine"],
        }  # fmt: skip
        steps = self.steps(base.epochs, base.batch_size, task.samples)
        with self._bar(steps, f"{config.name}, base") as bar:
            trained = zoo.train(
                function, task.loss(function, config.loss), task.shared, hyper, key=self.key,
                steps=steps, batch_size=base.batch_size, own=task.own, log=bar,
            )  # fmt: skip
        return zoo.lora_function(function, trained[0], **base.adapters)

    def _stop(self) -> Any:
        config = self.config
        if config.stop_psnr is None:
            return None
        limit = self.task.span**2 * 10 ** (-config.stop_psnr / 10)
        return lambda loss, row, step: (loss <= limit) & (step >= config.stop_after)

    def _writer(self) -> store.Writer:
        new = not (self.zoo_folder / "index.json").exists()
        kept = {"evaluation": self.tests[0]} if new else {}
        return store.Writer(self.zoo_folder, append=True, **kept)

    def _bar(self, total: int, label: str):
        return train.progress(total, label, enabled=False if self.quiet else None)


def claim(folder: Path, config: ZooConfig, source: str) -> None:
    """Write what is built in this folder, or refuse if it is something else.

    Raises:
        SystemExit: the folder holds another zoo; names what differs.
    """
    file = folder / "config.json"
    mine = json.loads(json.dumps({**dataclasses.asdict(config), "data": source}, default=str))
    if file.exists():
        found = json.loads(file.read_text())
        other = sorted(n for n in {*mine, *found} if mine.get(n) != found.get(n))
        if other:
            raise SystemExit(
                f"{folder} holds a zoo with other options ({', '.join(other)}; see {file}); give "
                "another --folder, or remove it."
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    _write_atomically(file, mine)


def read_progress(folder: Path) -> list[dict[str, Any]]:
    """What has been stored of a zoo: rows so far, runs and seconds of each piece."""
    file = folder / "progress.json"
    return json.loads(file.read_text()) if file.exists() else []


def _write_progress(folder: Path, pieces: list[dict[str, Any]]) -> None:
    _write_atomically(folder / "progress.json", pieces)


def _write_atomically(file: Path, what: Any) -> None:
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(what, indent=1) + "\n")
    temporary.replace(file)

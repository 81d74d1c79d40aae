"""Does teleporting help? Test functions, the published regressions, classifiers, a transformer.

`python -m experiments.teleportation` trains each problem with and without teleports, at equal learning
rates and at each method's best one, over five seeds, and writes `teleportation.json` and a figure.
`--data FOLDER` adds MNIST and Fashion-MNIST (idx files in `FOLDER/mnist`, `FOLDER/fashion_mnist`).
Figures of the original implementation are recorded in `experiments/results/teleportation_reference.json`.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import _teleport_problems as problems
from experiments._teleport_report import figure, notes, table
from experiments._teleport_runs import Run, Trainer, report, rounded, summary
from wsljax import symmetry
from wsljax._compat import require
from wsljax.understanding.teleportation import (
    TeleportNet,
    batch_action,
    curvature,
    gradient_norm,
    sharpness,
    teleport,
    teleporting,
    top_eigenvalue,
    train_teleport_net,
)


@dataclass(frozen=True)
class Config:
    """Every option of `python -m experiments.teleportation`."""

    out: str = "experiments/results/teleportation.json"
    """Where results go; the figure beside it."""
    data: str = ""
    """Folder with mnist/ and fashion_mnist/ (idx .gz files); without it, scikit-learn's digits alone."""
    seeds: int = 5
    """Starts of each training."""
    steps: int = 600
    """Updates of each classifier."""
    batch_size: int = 64
    """Images in an update."""
    at: tuple[int, ...] = ()
    """Updates before which classifiers and transformer teleport; by default every hundredth."""
    train_images: int = 10_000
    """Images of MNIST and Fashion-MNIST that are trained on."""
    only: tuple[str, ...] = ()
    """Parts to run, of functions, regression, classification, transformer, objectives, learned; all by
    default."""


OPTIMISERS: dict[str, tuple[Callable, float]] = {
    "sgd": (lambda lr: optax.sgd(lr), 0.1),
    "momentum": (lambda lr: optax.sgd(lr, momentum=0.9), 0.03),
    "adagrad": (lambda lr: optax.adagrad(lr), 0.1),
    "adam": (lambda lr: optax.adam(lr), 0.01),
}
"""Each with the middle one of the three learning rates that are tried (a third of it, it, three times)."""


def main(config: Config) -> dict[str, Any]:
    """Run the study; returns what the JSON holds."""
    start = time.time()
    parts = {
        "functions": functions,
        "regression": regression,
        "classification": classification,
        "transformer": transformer,
        "objectives": objectives,
        "learned": learned,
    }
    if unknown := set(config.only) - set(parts):
        raise ValueError(f"`only` has {sorted(unknown)}; parts are {tuple(parts)}")
    results = {name: part(config) for name, part in parts.items() if name in (config.only or parts)}
    out = {
        "command": " ".join(["python -m experiments.teleportation", *sys.argv[1:]]).replace(
            config.data or "-", "FOLDER" if config.data else "-"
        ),
        "config": asdict(config) | ({"data": "FOLDER"} if config.data else {}),
        "jax": jax.__version__,
        "device": f"{jax.devices()[0].device_kind}, {platform.machine()}",
        "seconds": round(time.time() - start),
        "load": [round(x, 1) for x in os.getloadavg()],
        "notes": [*_busy(), *notes(results)],
        "results": results,
    }
    path = Path(config.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(out) + "\n")
    if any(name in results for name in ("regression", "classification", "transformer")):
        figure(path.with_suffix(".png"), results)
    print(table(results))
    return out


def _busy() -> list[str]:
    """A warning where other jobs took part of the machine."""
    load, cores = os.getloadavg()[1], os.cpu_count() or 1
    if load < 1.5 * cores:
        return []
    return [f"The machine was shared (load {load:.1f} on {cores} cores): wall times are rough."]


def functions(config: Config) -> dict[str, Any]:
    """Rosenbrock and Booth: gradient descent, plain and with rotations in closed form.

    In float32, as the original, and in float64: in float32 Rosenbrock's function cannot be evaluated to
    1e-5 near its minimum, and teleports that cannot be seen to keep the loss are not made.
    """
    out = {}
    for make in (problems.rosenbrock, problems.booth):
        out[make.__name__] = entry = {"reference": problems.reference()[make.__name__]}
        for dtype in ("float32", "float64"):
            with jax.enable_x64(dtype == "float64"):
                entry |= {f"{k}, {dtype}": v for k, v in _function(make()).items()}
        finals = {k: v["losses"][-1] for k, v in entry.items() if k != "reference"}
        _say(f"{make.__name__}: {finals}")
    return out


def _function(f: problems.Function) -> dict[str, Any]:
    out = {}
    for name in ("plain", "teleport"):

        def optimiser(lr, name=name):
            if name == "plain":
                return optax.sgd(lr)
            return teleporting(
                optax.sgd(lr), f.loss, f.action, at=f.teleports, steps=20, radius=0.3
            )

        trainer = Trainer(f.loss, optimiser, (), segment=f.steps // 10)
        run = trainer(f.start, f.learning_rate, f.steps, jax.random.key(0))
        out[name] = {"losses": rounded(run.losses), "seconds": rounded(run.seconds[-1])}
        if name == "teleport":
            out[name]["last"] = report(run.state.report)
    return out


def regression(config: Config) -> dict[str, Any]:
    """The 5-6-7-8 regression of 2022 from the original's own starts; and with a sigmoid."""
    recorded = problems.reference()
    starts = recorded["mlp"]["starts"][: config.seeds]
    out: dict[str, Any] = {"reference": _of_reference(recorded["mlp"]["runs"])}
    cases = [
        ("leaky", "sgd", problems.leaky, problems.leaky_inverse, optax.sgd, 1e-4, 8),
        ("leaky", "adagrad", problems.leaky, problems.leaky_inverse, _adagrad, 1e-1, 2),
        ("sigmoid", "sgd", jax.nn.sigmoid, problems.logit, optax.sgd, 3e-2, 8),
    ]
    for kind, name, activation, inverse, inner, rate, steps in cases:
        loss = problems.regression(activation)
        groups: dict[str, Any] = {"plain": None}
        if kind == "leaky":
            p = [jnp.asarray(w) for w in starts[0]["weights"]]
            groups["scalings"] = _scalings(p, jnp.asarray(starts[0]["x"]))
        for form in ("2022", "2024"):

            def on_batch(p, x, y, a=activation, i=inverse, form=form):
                return batch_action(p, x, activation=a, inverse=i, form=form)

            groups[f"on batch {form}"] = on_batch
        for label, group in groups.items():
            radius = 0.1 if "batch" in label else 0.3
            options = {"at": (5,), "steps": steps, "radius": radius, "probes": 1}
            trainer = _Shared(loss, inner, group, options)
            runs = [trainer(s, rate, 300) for s in starts]
            entry = summary(runs) | {"loss_at_50": rounded(np.mean([r.losses[5] for r in runs]))}
            if group is not None:
                entry["teleports"] = [report(r.state.report) for r in runs]
            out.setdefault(f"{kind} {name}", {})[label] = entry
            _say(
                f"{kind} {name} {label}: {entry['loss_at_50']} {np.mean(entry['final_losses']):.4g}"
            )
    return out


def _scalings(p: list, x: jax.Array) -> symmetry.Spec:
    """The scalings of the leaky network, looked for at weights and inputs of both signs: the recorded
    starts are all positive, where a leaky ReLU is a straight line."""

    def net(p, x):
        for w in p[:-1]:
            x = problems.leaky(x @ w)
        return x @ p[-1]

    keys = jax.random.split(jax.random.key(0), len(p) + 1)
    usual = [jax.random.normal(k, w.shape) for k, w in zip(keys, p)]
    return symmetry.infer(net, usual, jax.random.normal(keys[-1], x.shape), kinds=("scale",))


class _Shared:
    """As `Trainer`, for starts that bring their own data: compiled once for all of them."""

    def __init__(self, loss, inner, group, options: dict[str, Any]):
        def optimiser(lr):
            return inner(lr) if group is None else teleporting(inner(lr), loss, group, **options)

        def segment(p, state, rate, x, y):
            def step(carry, _):
                p, state = carry
                extra = {} if group is None else {"inputs": (x, y)}
                updates, state = optimiser(rate).update(jax.grad(loss)(p, x, y), state, p, **extra)
                return (optax.apply_updates(p, updates), state), None

            return jax.lax.scan(step, (p, state), length=10)[0]

        self.loss, self.init = jax.jit(loss), lambda p, rate: optimiser(rate).init(p)
        self.segment, self.warm = jax.jit(segment), False

    def __call__(self, start, rate, steps) -> Run:
        x, y = jnp.asarray(start["x"]), jnp.asarray(start["y"])
        p = [jnp.asarray(w) for w in start["weights"]]
        state = jax.tree.map(jnp.asarray, self.init(p, jnp.float32(rate)))
        if not self.warm:
            jax.block_until_ready(self.segment(p, state, jnp.float32(rate), x, y))
            self.warm = True
        losses, seconds, clock = [float(self.loss(p, x, y))], [0.0], 0.0
        for _ in range(steps // 10):
            begin = time.perf_counter()
            p, state = jax.block_until_ready(self.segment(p, state, jnp.float32(rate), x, y))
            clock += time.perf_counter() - begin
            losses.append(float(self.loss(p, x, y)))
            seconds.append(clock)
        return Run([10 * i for i in range(len(losses))], losses, seconds, p, state)


def _adagrad(lr):
    return optax.adagrad(lr, initial_accumulator_value=0.0, eps=1e-20)


def _of_reference(runs: dict[str, Any]) -> dict[str, Any]:
    out = {}
    for name, rows in runs.items():
        finals = [r["final"] for r in rows]
        out[name] = {
            "loss_at_50": rounded(np.mean([r["loss_at_50"] for r in rows])),
            "final_losses": finals,
            "seconds": rounded(np.mean([r["seconds"] for r in rows])),
            "losses": rounded(np.mean([r["losses"] for r in rows], 0)),
        }
        if rows[0]["teleport"]:
            jumps = [r["teleport"] for r in rows]
            out[name]["loss_change"] = rounded(
                [j["loss_after"] / j["loss_before"] - 1 for j in jumps]
            )
            out[name]["objective_ratio"] = rounded([j["gradient_norm_ratio"] for j in jumps])
    return out


def classification(config: Config) -> dict[str, Any]:
    """Leaky ReLU classifiers: four optimisers, three learning rates, plain and teleporting."""
    names = ["digits", *(("mnist", "fashion_mnist") if config.data else ())]
    return {name: _classifier(name, config) for name in names}


def _classifier(name: str, config: Config) -> dict[str, Any]:
    data = problems.images(name, config.data, config.train_images)
    sizes = (data.train_x.shape[1], 16, 10, 10)
    starts = [problems.init_mlp(sizes, jax.random.key(s)) for s in range(config.seeds)]
    spec = symmetry.infer(problems.mlp, starts[0], data.train_x[:64], kinds=("scale",))
    some = data.train_x[:200], data.train_y[:200]
    loss = lambda p, x, y: problems.cross_entropy(problems.mlp(p, x), y)  # noqa: E731
    accuracy = jax.jit(
        lambda p: jnp.mean(jnp.argmax(problems.mlp(p, data.test_x), -1) == data.test_y)
    )
    train = data.train_x, data.train_y
    return _compare(loss, spec, starts, train, some, accuracy, OPTIMISERS, config, name)


def transformer(config: Config) -> dict[str, Any]:
    """GL of every head on queries and keys and on values and outputs, on digits."""
    data = problems.images("digits", "", 0)
    apply = jax.vmap(problems.transformer, (None, 0))
    starts = [problems.init_transformer(8, jax.random.key(s)) for s in range(config.seeds)]
    spec = symmetry.infer(apply, starts[0], data.train_x[:4], kinds=("linear",))
    some = data.train_x[:200], data.train_y[:200]
    loss = lambda p, x, y: problems.cross_entropy(apply(p, x), y)  # noqa: E731
    accuracy = jax.jit(lambda p: jnp.mean(jnp.argmax(apply(p, data.test_x), -1) == data.test_y))
    chosen = {"momentum": OPTIMISERS["momentum"], "adam": OPTIMISERS["adam"]}
    train = data.train_x, data.train_y
    out = _compare(loss, spec, starts, train, some, accuracy, chosen, config, "transformer")
    return out | {"generators": [(g.name, list(g.shape)) for g in spec.generators]}


def _compare(loss, spec, starts, data, some, accuracy, optimisers, config, name) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for which, (inner, middle) in optimisers.items():
        variants = ["plain", "teleport"] + (["teleport, state lost"] if which != "sgd" else [])
        for variant in variants:

            def optimiser(lr, inner=inner, variant=variant):
                if variant == "plain":
                    return inner(lr)
                second = "restart" if "lost" in variant else "squares"
                when = {"at": config.at} if config.at else {"every": 100}
                return teleporting(
                    inner(lr), loss, spec, **when, steps=5, radius=0.1, second=second, probes=8
                )

            inputs = None if variant == "plain" else some
            trainer = Trainer(
                loss, optimiser, data, batch_size=config.batch_size, inputs=inputs, segment=25
            )
            rates = {}
            for rate in (middle / 3, middle, middle * 3):
                runs = [
                    trainer(p, rate, config.steps, jax.random.key(100 + s))
                    for s, p in enumerate(starts)
                ]
                entry = summary(runs)
                entry["accuracies"] = rounded([accuracy(r.params) for r in runs])
                if variant != "plain":
                    entry["teleports"] = [report(r.state.report) for r in runs]
                rates[f"{rate:.3g}"] = entry
            finals = {r: np.mean(_finite(e["final_losses"])) for r, e in rates.items()}
            best = min(finals, key=finals.get)
            out.setdefault(which, {})[variant] = {"best_rate": best, "rates": rates}
            _say(
                f"{name} {which} {variant}: "
                + ", ".join(f"{r}: {v:.4g}" for r, v in finals.items())
            )
    return out


def _finite(values: list) -> list[float]:
    return [np.inf if v is None else v for v in values]


def objectives(config: Config) -> dict[str, Any]:
    """Sharpness, largest eigenvalue and curvature of one trained classifier, moved up and down."""
    data = problems.images("digits", "", 0)
    p = problems.init_mlp((64, 16, 10, 10), jax.random.key(0))
    loss = lambda p, x, y: problems.cross_entropy(problems.mlp(p, x), y)  # noqa: E731
    train = data.train_x, data.train_y
    run = Trainer(loss, OPTIMISERS["adam"][0], train, batch_size=64, segment=100)
    p = run(p, 0.01, 300, jax.random.key(0)).params
    spec = symmetry.infer(problems.mlp, p, data.train_x[:64], kinds=("scale",))
    k = jax.random.key(0)
    some = data.train_x[:100], data.train_y[:100]
    chosen = {
        "squared gradient norm": None,
        "sharpness": sharpness(loss, directions=10, radii=(1.0, 2.0), key=k),
        "top eigenvalue": top_eigenvalue(loss, iterations=10, key=k),
        "curvature": curvature(spec, draws=2, key=k),
    }
    out = {}
    for name, objective in chosen.items():
        for goal in ("least", "greatest"):
            move = jax.jit(
                lambda p, o=objective, g=goal: (
                    teleport(
                        loss, p, spec, *some, objective=o, minimise=g == "least", steps=10
                    ).report
                )
            )
            out[f"{name}, {goal}"] = report(move(p))
        _say(f"objective {name}: {out[f'{name}, least']['objective_ratio']}, "
             f"{out[f'{name}, greatest']['objective_ratio']}")  # fmt: skip
    return out


def learned(config: Config) -> dict[str, Any]:
    """A network that proposes the move, on draws it has not seen, beside gradient ascent."""
    data = problems.images("digits", "", 0)
    sizes, some = (64, 16, 10, 10), (data.train_x[:100], data.train_y[:100])
    loss = lambda p, x, y: problems.cross_entropy(problems.mlp(p, x), y)  # noqa: E731
    draw = lambda key: problems.init_mlp(sizes, key)  # noqa: E731
    spec = symmetry.infer(
        problems.mlp, draw(jax.random.key(0)), data.train_x[:64], kinds=("scale",)
    )
    held_out = [draw(jax.random.key(1000 + i)) for i in range(20)]
    least_sharp = sharpness(loss, directions=10, radii=(1.0,), key=jax.random.key(3))
    goals = {
        "squared gradient norm, greatest": {"objective": gradient_norm(loss)},
        "sharpness, least": {"objective": least_sharp, "minimise": True},
    }
    out: dict[str, Any] = {}
    for title, goal in goals.items():
        net = TeleportNet(spec, radius=1.0, key=jax.random.key(1))
        begin = time.perf_counter()
        net, _ = train_teleport_net(
            net, loss, draw, *some, **goal, steps=150, batch_size=8, key=jax.random.key(2)
        )
        entry: dict[str, Any] = {"training_seconds": rounded(time.perf_counter() - begin)}
        moves = {
            "one proposal": {"steps": 1, "direction": net, "radius": 1.0},
            "one gradient step": {"steps": 1, "radius": 1.0},
            "ten gradient steps": {"steps": 10, "radius": 0.1},
        }
        for name, options in moves.items():
            move = jax.jit(lambda p, o=goal | options: teleport(loss, p, spec, *some, **o).report)
            jax.block_until_ready(move(held_out[0]))
            begin = time.perf_counter()
            reports = [report(jax.block_until_ready(move(p))) for p in held_out]
            ratios = [r["objective_ratio"] for r in reports]
            entry[name] = {
                "objective_ratio": rounded(np.exp(np.mean(np.log(ratios)))),
                "least_and_greatest": [min(ratios), max(ratios)],
                "loss_change": max(r["loss_change"] for r in reports),
                "milliseconds": rounded(1e3 * (time.perf_counter() - begin) / len(held_out)),
            }
            _say(f"learned, {title}: {name} {entry[name]}")
        out[title] = entry
    return out


def _say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


if __name__ == "__main__":
    main(require("tyro", extra="experiments").cli(Config, description=__doc__))

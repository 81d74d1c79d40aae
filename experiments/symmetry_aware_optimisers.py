"""Optimisers that know the group of scalings, beside those that do not.

`python -m experiments.symmetry_aware_optimisers` trains small classifiers of digits, five seeds each:
(a) a ReLU network from a balanced start, and from the same function rescaled by a random element of its
group; (b) a network with batch normalisation. Every method has its learning rate chosen for each start, on
three other seeds, by the training loss at the end. Then the distances between the trained networks, up to
symmetry. `--data FOLDER` takes MNIST or Fashion-MNIST (the four idx files) in place of the digits.

What came out (the table printed at the end; `experiments/results/symmetry_aware_optimisers.json`), and where
knowing the group does not help:

* A rescaled start ruins plain SGD (loss 0.051 in place of 0.0011 after 400 steps). Path-SGD, G-SGD and SGD in the
  balanced metric do exactly as well from there as from the balanced start; balancing after each step helps
  much, balancing every 20 steps comes too late for the rate that survives the first 20.
* From a balanced start nothing beats plain SGD or Adam by much. Path-SGD is quick at first and behind at the end.
* Adam with its own rate hardly minds the rescaled start. Keeping it off the orbit makes it worse there: it may not
  rebalance then.
* In front of batch norm, removing radial parts or keeping lengths does not help: the training loss ends higher (with
  Adam 0.0095 in place of 0.0032; growing weights are a decay of the rate), the accuracy is the same.
* Networks of one orbit have canonical forms that agree to rounding. Those of different seeds stay far apart after
  the best alignment found: about as far as their own norm.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments._optimisers_problems import Problem, batch_norm_network, load, relu_network
from experiments._optimisers_report import figure, table
from wsljax import symmetry
from wsljax._compat import require
from wsljax.understanding import canonical, optimisers

TUNING = 3
"""Seeds by which learning rates are chosen."""
RESULTS = Path(__file__).parent / "results"


def relu_methods(problem: Problem) -> dict[str, tuple[Callable, list[float]]]:
    """Name: (learning rate -> transform, rates to try)."""
    spec, apply = problem.spec, problem.apply
    fn = lambda p, x: apply(p, x, x)  # noqa: E731
    one = jax.ShapeDtypeStruct((1, *problem.example[0].shape[1:]), jnp.float32)
    metric = lambda p: optimisers.balanced_metric(p, spec, steps=10)  # noqa: E731
    sgd, adam = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0], [1e-3, 3e-3, 1e-2, 3e-2, 1e-1]
    return {
        "SGD": (optax.sgd, sgd),
        "SGD, balanced each step": (
            lambda r: optax.chain(optax.sgd(r), optimisers.balancing(spec)), sgd,
        ),
        "SGD, balanced every 20": (
            lambda r: optax.chain(optax.sgd(r), optimisers.balancing(spec, every=20, steps=20)), sgd,
        ),
        "Path-SGD": (
            lambda r: optimisers.path_sgd(fn, one, learning_rate=r), [0.1, 0.3, 1.0, 3.0, 10.0],
        ),
        "G-SGD, gauge": (lambda r: optimisers.g_sgd(spec, r), sgd),
        "G-SGD, paths": (lambda r: optimisers.g_sgd(spec, r, coordinates="path"), sgd),
        "SGD, balanced metric": (
            lambda r: optax.chain(optimisers.scale_by_metric(metric), optax.sgd(r)), sgd,
        ),
        "Adam": (optax.adam, adam),
        "Adam off the orbit": (
            lambda r: optax.chain(optax.adam(r), optimisers.project_quotient(spec, steps=30)), adam,
        ),
        "Adam, balanced every 20": (
            lambda r: optax.chain(optax.adam(r), optimisers.balancing(spec, every=20, steps=20)), adam,
        ),
    }  # fmt: skip


def norm_methods(problem: Problem) -> dict[str, tuple[Callable, list[float]]]:
    spec = problem.spec
    radial = optimisers.remove_radial
    momentum = lambda r: optax.sgd(r, momentum=0.9)  # noqa: E731
    sgd, adam = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0], [1e-3, 3e-3, 1e-2, 3e-2, 1e-1]
    return {
        "SGD, momentum": (momentum, sgd),
        "SGD, momentum, no radial part": (
            lambda r: optax.chain(momentum(r), radial(spec)), sgd,
        ),
        "SGD, momentum, lengths kept": (
            lambda r: optax.chain(momentum(r), radial(spec, keep_norm=True)), sgd,
        ),
        "SGD, invariant step": (
            lambda r: optax.chain(radial(spec, invariant=True), optax.sgd(r)), sgd,
        ),
        "Adam": (optax.adam, adam),
        "Adam, no radial part": (lambda r: optax.chain(optax.adam(r), radial(spec)), adam),
        "Adam, lengths kept": (
            lambda r: optax.chain(optax.adam(r), radial(spec, keep_norm=True)), adam,
        ),
        "Adam off the orbit": (
            lambda r: optax.chain(optax.adam(r), optimisers.project_quotient(spec, steps=30)), adam,
        ),
    }  # fmt: skip


def trainer(problem: Problem, make: Callable, data, options) -> Callable:
    """`(rates, keys, params) -> (params, losses, accuracies)`, all stacked; compiled once."""

    def loss(p, x, y):
        logits = problem.apply(p, x, x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    reference = data.train_x[:1000]

    def measure(p):
        logits = problem.apply(p, reference, reference)
        train = optax.softmax_cross_entropy_with_integer_labels(logits, data.train_y[:1000]).mean()
        test = problem.apply(p, data.test_x, reference).argmax(-1) == data.test_y
        return train, test.mean()

    def one(rate, key, params):
        transform = make(rate)

        def step(carry, key):
            params, state = carry
            at = jax.random.randint(key, (options.batch,), 0, len(data.train_x))
            g = jax.grad(loss)(params, data.train_x[at], data.train_y[at])
            updates, state = transform.update(g, state, params)
            return (optax.apply_updates(params, updates), state), None

        def chunk(carry, keys):
            carry, _ = jax.lax.scan(step, carry, keys)
            return carry, measure(carry[0])

        keys = jax.random.split(key, (options.steps // options.every, options.every))
        (params, _), (losses, accuracies) = jax.lax.scan(
            chunk, (params, transform.init(params)), keys
        )
        return params, losses, accuracies

    return jax.jit(jax.vmap(one))


def study(problem: Problem, methods, data, options) -> tuple[list[dict], dict[str, Any]]:
    """One row for each method and start; and the trained networks. Time: all seeds at once, best of five."""
    rows, trained = [], {}
    seeds = jax.vmap(jax.random.key)(jnp.arange(options.seeds))
    for name, (make, rates) in methods.items():
        run = trainer(problem, make, data, options)
        for start, init in problem.starts.items():
            # the same starts and batches for every rate, of seeds that are not used again
            keys = jnp.tile(jax.vmap(jax.random.key)(1000 + jnp.arange(TUNING)), len(rates))
            tried = jnp.repeat(jnp.asarray(rates, jnp.float32), TUNING)
            _, losses, _ = run(tried, keys, jax.vmap(init)(keys))
            final = np.nan_to_num(np.asarray(losses[:, -1]), nan=np.inf)
            rate = rates[int(np.argmin(final.reshape(-1, TUNING).mean(1)))]
            args = jnp.full(len(seeds), rate, jnp.float32), seeds, jax.vmap(init)(seeds)
            jax.block_until_ready(run(*args))  # compiled anew for this many
            times = []
            for _ in range(5):
                begin = time.perf_counter()
                params, losses, accuracies = jax.block_until_ready(run(*args))
                times.append(time.perf_counter() - begin)
            rows.append(
                {
                    "problem": problem.name, "method": name, "start": start, "rate": rate,
                    "at_the_edge": rate in (rates[0], rates[-1]),
                    "loss": np.asarray(losses).tolist(),
                    "accuracy": np.asarray(accuracies).tolist(),
                    "ms_per_step": 1000 * min(times) / options.steps,
                }
            )  # fmt: skip
            trained[f"{name}, {start}"] = params
            print(table(rows[-1:], header=len(rows) == 1), flush=True)
    return rows, trained


def distances(problem: Problem, networks: dict[str, Any], options) -> list[dict]:
    """Between trained networks of different seeds, and between copies moved by the group."""
    spec, out = problem.spec, []
    for name, params in networks.items():
        each = [jax.tree.map(lambda v, i=i: v[i], params) for i in range(options.seeds)]
        for i, j in itertools.combinations(range(options.seeds), 2):
            out.append({"networks": name, "pair": "seeds", **_distance(each[i], each[j], spec)})
        for i, p in enumerate(each):
            logs = {
                n: jax.random.normal(jax.random.key(i), v.shape)
                for n, v in spec.algebra(kinds=("scale",)).items()
            }
            element = spec.sample(jax.random.key(i), kinds=("permutation",)) | spec.exp(logs)
            moved = spec.act(element, p)
            out.append({"networks": name, "pair": "one orbit", **_distance(p, moved, spec)})
    return out


def _distance(a, b, spec: symmetry.Spec) -> dict[str, float]:
    found = canonical.quotient_alignment(a, b, spec)
    size = np.sqrt(sum(float(np.sum(x**2)) for x in jax.tree.leaves(found.first)))
    return {
        "raw": found.raw_distance, "canonical": found.canonical_distance,
        "aligned": found.distance, "norm": size,
    }  # fmt: skip


def main(options) -> dict[str, Any]:
    require("matplotlib", extra="experiments")
    begin = time.time()
    data = load(options.data)
    inputs = data.train_x.shape[1]
    relu = relu_network(inputs, options.width, options.spread)
    norm = batch_norm_network(inputs, options.width)
    rows, networks = study(relu, relu_methods(relu), data, options)
    more, _ = study(norm, norm_methods(norm), data, options)
    rows += more
    chosen = {n: networks[n] for n in ("SGD, balanced", "SGD, unbalanced")}
    pairs = distances(relu, chosen, options)
    summary = {}
    for name, pair in sorted({(d["networks"], d["pair"]) for d in pairs}):
        mine = [d for d in pairs if (d["networks"], d["pair"]) == (name, pair)]
        summary[f"{name}: {pair}"] = {
            k: float(np.mean([d[k] for d in mine])) for k in ("raw", "canonical", "aligned", "norm")
        }
        print(
            f"{name}: {pair}: "
            + ", ".join(f"{k} {v:.4g}" for k, v in summary[f"{name}: {pair}"].items())
        )
    results = {
        "command": " ".join(["python", "-m", "experiments.symmetry_aware_optimisers", *sys.argv[1:]]),
        "options": {k: v for k, v in vars(options).items() if k != "out"},
        "rows": rows, "distances": pairs, "mean_distances": summary,
        "seconds": time.time() - begin, "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
    }  # fmt: skip
    folder = Path(options.out)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "symmetry_aware_optimisers.json").write_text(json.dumps(_short(results)) + "\n")
    figure(folder / "symmetry_aware_optimisers.png", rows, pairs, options)
    print(
        f"\n{table(rows)}\n\n{results['seconds']:.0f} s; {folder}/symmetry_aware_optimisers.json, .png"
    )
    return results


def _short(x: Any) -> Any:
    """Numbers to five digits: the file is read by people too."""
    if isinstance(x, float):
        return float(f"{x:.5g}")
    if isinstance(x, dict):
        return {k: _short(v) for k, v in x.items()}
    return [_short(v) for v in x] if isinstance(x, list) else x


def parser() -> argparse.ArgumentParser:
    out = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    out.add_argument("--data", default="", help="folder of idx files; by default embedded digits")
    out.add_argument("--steps", type=int, default=400)
    out.add_argument("--every", type=int, default=20, help="steps between measurements")
    out.add_argument("--batch", type=int, default=64)
    out.add_argument("--width", type=int, default=32)
    out.add_argument("--seeds", type=int, default=5)
    out.add_argument("--spread", type=float, default=1.0, help="deviation of the log rescaling")
    out.add_argument("--out", default=str(RESULTS))
    return out


if __name__ == "__main__":
    main(parser().parse_args())

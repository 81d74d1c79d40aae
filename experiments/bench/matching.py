"""Weight matching beside git-re-basin's own code: objective, recovery of planted permutations, time.

`python -m experiments.bench.matching [--peers FOLDER] [--only NAMES] [--long] [--out FILE [--append]]`.

`--peers` is a folder with a checkout of `git-re-basin`; its `weight_matching` is imported and run on the same
weights, with the same grouping of axes. Times are warm: both have run on these shapes before; they
take turns, and the median counts (`cpu_s` are seconds of all processors, which other work on the machine
does not change much). Targets: `objective` at least the peer's (a ratio of at most 1, or, where
both are below their start, of at least 1), `recovered` 1.0, `warm_s` at most half (a ratio of at least 2).

Ours tries twice (`--restarts`): half of the units are matched anew from the best so far.

`--long` adds VGG16 with the classifier of 4096, for which our time is set beside two minutes: the published
code did not finish within 30 on two cores; it is not run.

`residual`: 20 residual chains of standard normal weights (width 32, hidden 64, depth 2 and 6) with a copy
permuted at random plus 30% noise: in how many of them all permutations are found.

`pairs`: 64 pairs of small MLPs in one call against one by one. `assignment`: matrices by the solver of the
default backend beside our jitted one, SciPy's and optax's; `gap` is how far the totals are from SciPy's, relatively.

Lines are written as they are measured; with `--append`, cases that the file has are not run again.
"""

from __future__ import annotations

import importlib
import json
import statistics
import sys
import time
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from optax.assignment import hungarian_algorithm
from scipy.optimize import linear_sum_assignment

from experiments.bench import _matching_cases as cases
from experiments.bench._report import Report, arguments
from wsljax.understanding.matching import linear_assignment, weight_matching

PEER = "git-re-basin"
NETWORKS: dict[str, cases.Leaves] = {
    "mlp 784-512x3-10": cases.mlp(784, 512, 512, 512, 10),
    "resnet20 x1": cases.resnet20(1),
    "resnet20 x4": cases.resnet20(4),
    "vgg16 512": cases.vgg16(512),
}
LONG: dict[str, cases.Leaves] = {"vgg16 4096": cases.vgg16(4096)}
KINDS = ("planted", "unrelated", "unrelated, all")
ALLOWED_S = 120.0


def published(peers: Path | None) -> types.ModuleType | None:
    """The peer's module, with the one helper that it imports in place of its utilities."""
    if peers is None or not (peers / PEER / "src" / "weight_matching.py").exists():
        return None
    helper = types.ModuleType("utils")
    helper.rngmix = lambda key, x: jax.random.fold_in(key, hash(x))  # type: ignore[attr-defined]
    sys.modules["utils"] = helper
    sys.path.insert(0, str(peers / PEER / "src"))
    return importlib.import_module("weight_matching")


def weights(leaves: cases.Leaves, kind: str):
    """Spec, both networks, and the element that was planted."""
    spec = cases.spec_of(leaves)
    a = cases.draw(leaves, 0, everything=kind.endswith("all") or kind == "planted")
    if kind == "planted":
        return spec, a, *cases.plant(spec, a, 0)
    return spec, a, cases.draw(leaves, 1, everything=kind.endswith("all")), None


class Turn(NamedTuple):
    """A result, and the median of its warm seconds: on the clock, and of all processors together."""

    result: Any
    warm: float
    cpu: float


def take_turns(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, Turn]:
    """Run each several times in turns; the first run of each does not count."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    results = {}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            start, cpu = time.perf_counter(), time.process_time()
            results[name] = jax.block_until_ready(call())
            if turn:
                took = time.perf_counter() - start, time.process_time() - cpu
                seconds[name].append(took)
    medians = {n: [statistics.median(t) for t in zip(*seconds[n])] for n in calls}
    return {name: Turn(results[name], *medians[name]) for name in calls}


def objective(spec, a, b, element) -> float:
    moved = jax.jit(spec.act)(element, b)
    return float(sum(np.vdot(np.asarray(a[n], float), np.asarray(moved[n], float)) for n in a))


def recovered(found, planted) -> float:
    return float(np.mean([np.mean(np.asarray(found[n] == planted[n])) for n in planted]))


def beside_the_peer(report: Resumable, peer, name: str, leaves: cases.Leaves, options) -> None:
    repeats = min(report.repeats, 2) if "vgg" in name else report.repeats
    for kind in KINDS:
        if report.has(f"{name}, {kind}"):
            continue
        spec, a, b, planted = weights(leaves, kind)
        ours = partial(
            weight_matching, a, b, spec, key=jax.random.key(0), restarts=options.restarts
        )
        calls: dict[str, Callable[[], Any]] = {"ours": lambda call=ours: call().element}
        if peer is not None:
            theirs = peer.permutation_spec_from_axes_to_perm(cases.axes_to_perm(leaves))
            key = jax.random.PRNGKey(0)
            calls["peer"] = partial(peer.weight_matching, key, theirs, a, b, silent=True)
        found = take_turns(calls, repeats)
        case = f"{name}, {kind}"
        both = [objective(spec, a, b, t.result) for t in found.values()]
        names = [PEER] if peer else []
        report.add(case, "objective", *both, *names)
        report.add(case, "warm_s", *(t.warm for t in found.values()), *names)
        report.add(case, "cpu_s", *(t.cpu for t in found.values()), *names)
        if planted is not None:
            shares = [recovered(t.result, planted) for t in found.values()]
            report.add(case, "recovered", *shares, *names)


def long_cases(report: Resumable) -> None:
    for name, leaves in LONG.items():
        for kind in KINDS:
            if report.has(f"{name}, {kind}"):
                continue
            spec, a, b, planted = weights(leaves, kind)
            start = time.perf_counter()
            m = weight_matching(a, b, spec, key=jax.random.key(0))
            jax.block_until_ready(m)
            seconds = time.perf_counter() - start
            report.add(f"{name}, {kind}", "first_s", seconds, ALLOWED_S, "two minutes")
            report.add(f"{name}, {kind}", "objective", float(m.objective))
            if planted is not None:
                report.add(f"{name}, {kind}", "recovered", recovered(m.element, planted))


def residual_chains(report: Resumable, peer, trials: int = 20) -> None:
    for depth in (2, 6):
        for ends in (1, 4, 32):
            case = f"residual depth {depth}, {ends} ends, of {trials}"
            if report.has(case):
                continue
            leaves = cases.residual(depth, ends)
            spec, whole = cases.spec_of(leaves), {"ours": 0, "peer": 0}
            for seed in range(trials):
                a = cases.draw(leaves, seed, plain=True)
                b, planted = cases.plant(spec, a, seed)
                found = {"ours": weight_matching(a, b, spec, key=jax.random.key(seed)).element}
                if peer is not None:
                    theirs = peer.permutation_spec_from_axes_to_perm(cases.axes_to_perm(leaves))
                    key = jax.random.PRNGKey(seed)
                    found["peer"] = peer.weight_matching(key, theirs, a, b, silent=True)
                for n, element in found.items():
                    whole[n] += recovered(element, planted) == 1.0
            counts = [whole["ours"], whole["peer"]] if peer else [whole["ours"]]
            report.add(case, "recovered", *counts, *([PEER] if peer else []))


def many_pairs(report: Resumable, count: int = 64) -> None:
    for widths in ((2, 32, 32, 1), (784, 64, 64, 10)):
        case = f"{count} pairs of {'-'.join(map(str, widths))}"
        if report.has(case):
            continue
        leaves = cases.mlp(*widths)
        nets = [
            [cases.draw(leaves, s + k, everything=True) for k in range(count)] for s in (0, 1000)
        ]
        a, b = (jax.tree.map(lambda *x: jnp.stack(x), *group) for group in nets)
        match = partial(weight_matching, spec=cases.spec_of(leaves), key=jax.random.key(0))
        loop = partial(_one_by_one, match, *nets)
        found = take_turns({"one call": partial(match, a, b), "one by one": loop}, report.repeats)
        together, apart = found["one call"], found["one by one"]
        gap = np.abs(np.asarray(together.result.objective - apart.result)).max()
        report.add(case, "warm_s", together.warm, apart.warm, "one by one")
        report.add(case, "cpu_s", together.cpu, apart.cpu, "one by one")
        report.add(case, "largest difference of objectives", float(gap))


def _one_by_one(match: Callable, firsts: list, seconds: list) -> jax.Array:
    return jnp.stack([match(x, y).objective for x, y in zip(firsts, seconds, strict=True)])


def assignments(report: Resumable) -> None:
    rng = np.random.default_rng(0)
    for n in (64, 256, 512):
        for batch in (1, 16) if n < 512 else (1,):
            kinds = {"unrelated": rng.normal(size=(batch, n, n))}
            kinds["planted"] = kinds["unrelated"] - 10 * np.eye(n)[rng.permutation(n)]
            for kind, cost in kinds.items():
                case = f"assignment {batch} x {n}, {kind}"
                if not report.has(case):
                    _one_assignment(report, case, jnp.asarray(cost, jnp.float32))


def _one_assignment(report: Resumable, case: str, cost: jax.Array) -> None:
    device = jax.jit(partial(linear_assignment, backend="device"))
    theirs = jax.jit(jax.vmap(_by_optax))
    host = np.asarray(cost)
    calls = {
        "ours": partial(linear_assignment, cost),
        "device": partial(device, cost),
        "scipy": lambda: np.stack([linear_sum_assignment(c)[1] for c in host]),
        "optax": partial(theirs, cost),
    }
    found = take_turns(calls, 3)
    totals = {n: _total(host, np.asarray(t.result)) for n, t in found.items()}
    for name in ("device", "scipy", "optax"):
        report.add(case, "warm_s", found["ours"].warm, found[name].warm, name)
    for name in ("ours", "device", "optax"):
        gap = abs(totals[name] - totals["scipy"]) / abs(totals["scipy"])
        report.add(f"{case}, {name}", "gap", gap)


def _by_optax(cost: jax.Array) -> jax.Array:
    rows, columns = hungarian_algorithm(cost)
    return jnp.zeros_like(columns).at[rows].set(columns)


def _total(cost: np.ndarray, columns: np.ndarray) -> float:
    return float(np.take_along_axis(cost.astype(float), columns[..., None], -1).sum())


class Resumable(Report):
    """A report that knows what its file had when it was opened."""

    def __init__(self, options: Any):
        super().__init__(options)
        lines = self.out.read_text().splitlines() if self.out and self.out.exists() else []
        self.kept = {json.loads(line)["case"] for line in lines}

    def has(self, case: str) -> bool:
        return case in self.kept


def main() -> None:
    def extend(parser):
        parser.add_argument("--peers", type=Path, help="a folder with a checkout of git-re-basin")
        parser.add_argument("--only", nargs="+", help="words, one of which is in the case's name")
        parser.add_argument("--restarts", type=int, default=2, help="of ours; the peer has none")
        parser.add_argument("--long", action="store_true", help="VGG16 with 4096 as well")

    options = arguments(__doc__, extend)
    report = Resumable(options)
    peer = published(options.peers)
    wanted = lambda name: not options.only or any(w in name for w in options.only)  # noqa: E731
    for name, leaves in NETWORKS.items():
        if wanted(name):
            beside_the_peer(report, peer, name, leaves, options)
    if wanted("residual"):
        residual_chains(report, peer)
    if wanted("pairs"):
        many_pairs(report)
    if wanted("assignment"):
        assignments(report)
    if options.long:
        long_cases(report)


if __name__ == "__main__":
    main()

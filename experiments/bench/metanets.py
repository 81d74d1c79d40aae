"""Metanetworks over the weights of many kinds of networks: what each costs, beside the published code.

`python -m experiments.bench.metanets [--peers FOLDER] [--torch-python PYTHON] [--only NAMES]
[--methods NAMES] [--parts PARTS] [--out FILE]`.

Networks that are read: an MLP 2-32-32-1, MLPs of 8, 16 and 32 layers of 16 units, the small CNN zoo's
network, a ResNet with batch norms, a recurrent network, a GRU, an LSTM and transformers of 2 and 6
layers. Figures: parameters; seconds to compile forward and backward passes (tracing included); seconds
of one warm forward and backward pass over a batch; bytes of temporary memory; lines of the program
handed to the compiler. Parts:

layer    one universal layer, 16 channels, 4 networks, every axis of every block units of its own
         name; beside it the layer of the authors of Universal Neural Functionals
torch    a metanetwork of 3 layers; beside it the published torch code, as many layers, channels and
         networks and the same weight shapes, on the same processor cores. Where it has no normalisation
         or another activation, so has ours. It reads one number a weight, as ours does
table    every method with its defaults, 2 layers, 16 channels, 4 networks
span     how far a published linear layer is from the span of ours: the part of its matrix that is left
         over (`span_residual`), and how far outputs are apart once its weights are ours (`agreement`)

`--peers` is a folder with checkouts of public repositories under their own names
(`universal_neural_functional`, `nfn`, `DWSNets`, `neural-graphs`, `scalegmn`); they are imported from
there, and what is not there is left out. `--torch-python` is an interpreter that has torch, einops,
torch_geometric, hydra-core, random-fourier-features-pytorch and pyyaml.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def _restrict(threads: int) -> int:
    """Keep to so many processor cores, before jax asks how many there are; 0 for all."""
    if threads and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__" and "--threads" in sys.argv:
    _restrict(int(sys.argv[sys.argv.index("--threads") + 1]))

import equinox as eqx  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

from experiments.bench import _metanets_span as span  # noqa: E402
from experiments.bench import _metanets_unf as unf  # noqa: E402
from experiments.bench._metanets_cases import Case, cases, inferred  # noqa: E402
from experiments.bench._metanets_measure import Program, compiled, count, in_turns  # noqa: E402
from experiments.bench._metanets_worker import Worker  # noqa: E402
from experiments.bench._report import Report, arguments  # noqa: E402
from wsljax.representation import Metanetwork, methods  # noqa: E402
from wsljax.symmetry import Spec  # noqa: E402

PARTS = ("span", "layer", "torch", "table")
LAYERS = 3
GROUP = ("permutation", "scale", "sign")
"""What specs are asked for where a method lives on scales and signs."""

PUBLISHED: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("nfn", {"ends": "free", "norm": False, "activation": jax.nn.relu}, "nfn np"),
    ("nfn", {"ends": "fixed", "norm": False, "activation": jax.nn.relu}, "nfn hnp"),
    ("nft", {"activation": jax.nn.relu}, "nfn nft"),
    ("dws", {"pool": "max", "norm": False, "activation": jax.nn.relu}, "dws dws"),
    ("neural_graph", {"activation": jax.nn.silu}, "neural-graphs graph"),
    (
        "neural_graph_transformer",
        {"heads": 4, "activation": jax.nn.relu},
        "neural-graphs transformer",
    ),
    ("scale_gmn", {"bidirectional": False, "activation": jax.nn.silu}, "scalegmn forward"),
    ("scale_gmn", {"bidirectional": True, "activation": jax.nn.silu}, "scalegmn both"),
)
"""Method of ours, its options, and the published network that it is compared with."""

SCALED = ("scale_gmn", "monomial", "magep")
BASELINES = ("flat", "pointwise", "set_encoder")
"""Methods that are no layers of the table unless `--methods` names them."""


def network(
    spec: Spec,
    params: Any,
    method: str,
    channels: int,
    networks: int,
    layers: int,
    clock: str,
    **options: Any,
) -> Program:
    """Loss and gradients of one method on a batch of networks like `params`."""
    net = Metanetwork(spec, channels, layers, 1, key=jax.random.key(0), method=method, **options)
    keys = iter(jax.random.split(jax.random.key(1), len(jax.tree.leaves(params))))
    batch = jax.tree.map(
        lambda a: a + 0.1 * jax.random.normal(next(keys), (networks, *a.shape)), params
    )
    arrays, rest = eqx.partition(net, eqx.is_inexact_array)

    def loss(arrays: Any, batch: Any) -> jax.Array:
        return jnp.mean(jnp.square(jax.vmap(eqx.combine(arrays, rest))(batch)))

    program = compiled(jax.value_and_grad(loss), arrays, batch, clock=clock)
    return program._replace(figures={"parameters": float(count(arrays)), **program.figures})


class Bench:
    """The parts of the bench, over the networks and methods that were asked for."""

    def __init__(self, options: Any):
        self.options = options
        self.report = Report(options)
        self.threads = _restrict(options.threads)
        self.clock = options.clock
        self.peers: Path | None = options.peers
        self.specs: dict[tuple[str, bool], Spec] = {}

    def spec(self, name: str, case: Case, method: str) -> Spec:
        """What is inferred of a network, once."""
        key = (name, method in SCALED)
        if key not in self.specs:
            self.specs[key] = inferred(case, GROUP if key[1] else ("permutation",))
        return self.specs[key]

    def cases(self) -> Iterator[tuple[str, Case]]:
        for name, make in cases().items():
            if self.options.only is None or any(part in name for part in self.options.only):
                yield name, make()

    def wanted(self, method: str) -> bool:
        return self.options.methods is None or method in self.options.methods

    def layer(self) -> None:
        """One universal layer beside its authors'."""
        layers = unf.authors_layers(self.peers)
        if not self.wanted("universal"):
            return
        for name, case in self.cases():
            beside = None if case.slow and not self.options.slow else layers
            sides = unf.pair(beside, case, self.clock)
            label = f"{name}: universal layer, {unf.CHANNELS} channels, batch {unf.NETWORKS}"
            self._report(label, sides, "authors' jax layer")

    def torch(self) -> None:
        """Whole metanetworks beside published ones in torch."""
        if self.peers is None:
            return
        for method, options, peer in PUBLISHED:
            if not self.wanted(method) or method not in methods():
                continue
            for name, case in self.cases():
                if not case.layers or case.slow:
                    continue
                with Worker(
                    self.options.torch_python,
                    peer=peer,
                    peers=str(self.peers.resolve()),
                    shapes=case.layers,
                    channels=case.channels,
                    layers=LAYERS,
                    networks=case.networks,
                    threads=self.threads,
                    clock=self.clock,
                ) as worker:
                    if worker.skipped is not None:
                        print(f"{name}: {peer}: left out, {worker.skipped}", file=sys.stderr)
                        continue
                    spec = self.spec(name, case, method)
                    sizes = (case.channels, case.networks, LAYERS, self.clock)
                    sides = {
                        "ours": network(spec, case.params, method, *sizes, **options),
                        "authors": Program(worker.run, {"parameters": worker.parameters}),
                    }
                    told = ", ".join(f"{k}={_name(v)}" for k, v in options.items())
                    label = (
                        f"{name}: {method} ({told}), {LAYERS} layers, {case.channels} channels, "
                        f"batch {case.networks}"
                    )
                    self._report(label, sides, f"{peer}, torch {worker.version}")

    def table(self) -> None:
        """Every method on every network, with its defaults."""
        chosen = self.options.methods or [m for m in methods() if m not in BASELINES]
        for name, case in self.cases():
            for method in chosen:
                try:
                    spec = self.spec(name, case, method)
                    sides = {"ours": network(spec, case.params, method, 16, 4, 2, self.clock)}
                except Exception as e:  # noqa: BLE001 - one method that fails must not hide the others
                    print(f"{name}: {method} failed: {e!r}", file=sys.stderr)
                    continue
                self._report(f"{name}: {method}, 2 layers, 16 channels, batch 4", sides, "")

    def span(self) -> None:
        """Published linear layers in the span of ours."""
        for case, metric, ours, reference, name in span.lines(
            self.peers, self.options.torch_python, self.options.only
        ):
            self.report.add(case, metric, ours, reference, name)

    def _report(self, label: str, sides: dict[str, Program], reference: str) -> None:
        seconds = in_turns(
            {k: p.run for k, p in sides.items()},
            repeats=self.report.repeats,
            budget=self.options.budget,
        )
        label = f"{label}, {self.threads} thread{'s' * (self.threads > 1)}"
        if self.clock != "wall":
            label += ", processor time"
        beside = sides["authors"].figures if "authors" in sides else {}
        for metric, figure in sides["ours"].figures.items():
            other = beside.get(metric)
            self.report.add(label, metric, figure, other, None if other is None else reference)
        other = seconds.get("authors")
        self.report.add(
            label, "steady_s", seconds["ours"], other, None if other is None else reference
        )


def _name(value: Any) -> str:
    return getattr(value, "__name__", str(value))


def main() -> None:
    def extend(parser):
        parser.add_argument("--peers", type=Path, help="a folder with checkouts of repositories")
        parser.add_argument("--torch-python", default=sys.executable, help="interpreter with torch")
        parser.add_argument("--only", type=_list, help="networks whose name contains one of these")
        parser.add_argument("--methods", type=_list, help="these methods only")
        parser.add_argument("--parts", type=_list, default=list(PARTS), help="of the bench")
        parser.add_argument(
            "--threads", type=int, default=0, help="processor cores; 0: all there are"
        )
        parser.add_argument(
            "--slow", action="store_true", help="the references that take minutes, too"
        )
        parser.add_argument(
            "--budget", type=float, default=6.0, help="seconds of runs a comparison"
        )
        parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")

    options = arguments(__doc__, extend)
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        raise SystemExit(f"--parts: {sorted(unknown)}; there are {', '.join(PARTS)}")
    bench = Bench(options)
    for part in options.parts:
        begun = time.perf_counter()
        getattr(bench, part)()
        print(f"part {part}: {time.perf_counter() - begun:.0f} s", file=sys.stderr)


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


if __name__ == "__main__":
    main()

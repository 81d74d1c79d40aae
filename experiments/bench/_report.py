"""How every bench measures and what it prints.

Compile time and steady time are measured apart, every run waits for the device, the figure is the
median, and what is compared runs alternately so that a slow moment of the machine hits both::

    report = Report(arguments(__doc__))
    times = compare({"ours": (ours, args), "floor": (floor, args)}, repeats=report.repeats)
    report.add("mlp 3 layers", "steady_s", times["ours"].steady, times["floor"].steady, "floor")

One case is one JSON line; `ratio` is reference/ours, so more is better for times and bytes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax


class Times(NamedTuple):
    """Seconds: `trace` to a jaxpr and its lowering, `compile` by XLA, `steady` for one warm run."""

    trace: float
    compile: float
    steady: float


def measure(fn: Callable, *args: Any, repeats: int = 10) -> Times:
    """Time one jittable function; see `compare`."""
    return compare({"fn": (fn, args)}, repeats=repeats)["fn"]


def compare(
    cases: Mapping[str, tuple[Callable, Sequence[Any]]], *, repeats: int = 10
) -> dict[str, Times]:
    """Time several jittable functions against each other.

    Args:
        cases: for each name a function of arrays and its arguments. All must be new to jax in this
            process, or the trace is remembered and costs nothing.
        repeats: warm runs of each, taken in turns; the median counts.

    Returns:
        `Times` for each name.
    """
    if repeats < 1:
        raise ValueError(f"`repeats` is {repeats}; at least one warm run is needed")
    compiled, first = {}, {}
    for name, (fn, args) in cases.items():
        start = time.perf_counter()
        lowered = jax.jit(fn).lower(*args)
        traced = time.perf_counter()
        compiled[name] = lowered.compile()
        first[name] = traced - start, time.perf_counter() - traced
    steady = {name: [] for name in cases}
    for turn in range(repeats + 1):
        for name, (_, args) in cases.items():
            start = time.perf_counter()
            jax.block_until_ready(compiled[name](*args))
            if turn:  # the first run of each warms the caches and does not count
                steady[name].append(time.perf_counter() - start)
    return {name: Times(*first[name], statistics.median(steady[name])) for name in cases}


def median_seconds(fn: Callable[[], Any], *, repeats: int = 5) -> float:
    """The median time of a call that is not itself a jitted function: tracing, inference, I/O."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(fn())
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def arguments(
    doc: str | None, extend: Callable[[argparse.ArgumentParser], Any] | None = None
) -> argparse.Namespace:
    """The command line that all benches share; `extend(parser)` adds options of its own."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="also write the lines to this file")
    parser.add_argument("--append", action="store_true", help="add to that file, not replace it")
    parser.add_argument("--repeats", type=int, default=10, help="warm runs of each case")
    if extend is not None:
        extend(parser)
    return parser.parse_args()


class Report:
    """Prints one JSON line per case and, where asked, writes the same lines to a file."""

    def __init__(self, options: argparse.Namespace):
        self.repeats: int = options.repeats
        self.out: Path | None = options.out
        if self.out is not None:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            if not options.append:
                self.out.write_text("")

    def add(
        self,
        case: str,
        metric: str,
        ours: float,
        reference: float | None = None,
        reference_name: str | None = None,
    ) -> dict[str, Any]:
        """Report one figure next to that of the reference, or alone where there is none."""
        if (reference is None) != (reference_name is None):
            raise ValueError("a reference needs both its figure and its name")
        line = {
            "case": case,
            "metric": metric,
            "ours": float(ours),
            "reference": None if reference is None else float(reference),
            "reference_name": reference_name,
            "ratio": None if reference is None or not ours else float(reference) / float(ours),
            "device": device_name(),
            "jax": jax.__version__,
        }
        text = json.dumps(line, allow_nan=False)
        print(text, flush=True)
        if self.out is not None:
            with self.out.open("a") as file:
                file.write(text + "\n")
        return line


def device_name() -> str:
    """What the figures were measured on, as in "cpu x1"."""
    devices = jax.devices()
    return f"{devices[0].device_kind} x{len(devices)}"

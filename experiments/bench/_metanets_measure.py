"""What is measured of one side of a comparison, and runs of both sides in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax


class Program(NamedTuple):
    """A compiled program ready to run, and what it cost to get there.

    Attributes:
        run: runs it once and waits for the result.
        figures: `compile_s` (tracing and lowering included), `hlo_lines` of the program handed to
            the compiler, `temp_bytes` of memory beside arguments and results; for a library that
            compiles nothing, none of these.
    """

    run: Callable[[], float]
    figures: dict[str, float]


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
"""Seconds that pass, or seconds of processor time of all threads, which others' work does not touch."""


def compiled(fn: Callable, *args: Any, clock: str = "wall") -> Program:
    """Compile `fn(*args)` of arrays; `fn` must be new to jax in this process."""
    now = CLOCKS[clock]
    start = now()
    lowered = jax.jit(fn).lower(*args)
    executable = lowered.compile()
    seconds = now() - start
    memory = executable.memory_analysis()
    figures = {"compile_s": seconds, "hlo_lines": float(len(lowered.as_text().splitlines()))}
    if memory is not None:
        figures["temp_bytes"] = float(memory.temp_size_in_bytes)

    def run() -> float:
        start = now()
        jax.block_until_ready(executable(*args))
        return now() - start

    return Program(run, figures)


def in_turns(
    sides: Mapping[str, Callable[[], float]], *, repeats: int, budget: float = 20.0
) -> dict[str, float]:
    """The median seconds of each side, all run in turns; the first turn warms up and is not counted.

    Args:
        sides: functions that run once and return the seconds it took.
        repeats: turns that count. Cheap sides run several times in a turn, once more to warm up.
        budget: seconds after which no further turn begins, provided there was one that counts.
    """
    begun = time.perf_counter()
    first = {
        name: min(run(), run()) for name, run in sides.items()
    }  # the very first sets things up
    often = {name: max(1, min(20, int(0.05 / max(first[name], 1e-6)))) for name in sides}
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, run in sides.items():
            time.sleep(0.01)  # what the other side left running (waiting threads) comes to rest
            if often[name] > 1:
                run()
            found[name].append(statistics.median(run() for _ in range(often[name])))
        if time.perf_counter() - begun > budget:
            break
    return {name: statistics.median(seconds) for name, seconds in found.items()}


def count(arrays: Any) -> int:
    """How many numbers there are in a tree of arrays."""
    return sum(x.size for x in jax.tree.leaves(arrays) if hasattr(x, "size"))


def total(arrays: Sequence[jax.Array]) -> jax.Array:
    """A loss that every number has a part in."""
    return sum((jax.numpy.sum(jax.numpy.square(a)) for a in arrays), start=jax.numpy.zeros(()))

"""Weight statistics: networks a second beside batched numpy on the same cores.

`python -m experiments.bench.statistics [--networks 4096] [--out FILE]`.

The seven numbers of every tensor (minimum, quartiles, maximum, deviation, mean) of a stack of networks.
The reference calls `numpy.quantile`, `std` and `mean` along the last axis of each tensor, all networks
at once; ours are exact quantiles without sorting (see `wsljax.representation.baselines.order_statistics`). Both get
arrays that are there already. `error` is the largest difference from numpy in float64, and the target is
a ratio of at least 10 on two quiet cores (ratios are reference/ours in
seconds for as many networks). The second reference
is `jnp.sort`, jitted, on the same device. `cpu_s` compares processor time, which a busy machine disturbs
less: with two cores, ours may at best run in half of it.
"""

from __future__ import annotations

import statistics as std
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench._report import Report, arguments
from wsljax.representation.baselines.statistics import statistics
from wsljax.zoo.preprocessing.layers import leaf_order

LAYOUTS = {
    "small CNN, 4970 parameters": [(3, 3, 1, 16), (16,), (3, 3, 16, 16), (16,), (3, 3, 16, 16), (16,), (16, 10), (10,)],
    "MLP 64-16-16-10": [(64, 16), (16,), (16, 16), (16,), (16, 10), (10,)],
    "MLP 784-64-64-10": [(784, 64), (64,), (64, 64), (64,), (64, 10), (10,)],
    "SIREN 2-32-32-1": [(2, 32), (32,), (32, 32), (32,), (32, 1), (1,)],
}  # fmt: skip
QUARTILES = np.array([0, 0.25, 0.5, 0.75, 1])


def stack_of(shapes: list[tuple[int, ...]], networks: int) -> dict:
    draw = np.random.default_rng(0)
    out = {}
    for number in range(len(shapes) // 2):
        kernel, bias = shapes[2 * number : 2 * number + 2]
        arrays = {"kernel": kernel, "bias": bias}
        out[f"layer_{number}"] = {
            name: (draw.normal(size=(networks, *shape)) * 0.1).astype(np.float32)
            for name, shape in arrays.items()
        }
    return out


def tensors(stack: dict) -> list:
    one = jax.tree.map(lambda x: x[0], stack)
    paths = [path.split("/") for path in leaf_order(one, bias_first=True)]
    return [stack[layer][name].reshape(len(stack[layer][name]), -1) for layer, name in paths]


def by_numpy(flat: list[np.ndarray], dtype=None) -> np.ndarray:
    columns = []
    for x in flat:
        x = x if dtype is None else x.astype(dtype)
        columns += [
            *np.quantile(x, QUARTILES.astype(x.dtype), axis=1),
            x.std(axis=1),
            x.mean(axis=1),
        ]
    return np.stack(columns, axis=1)


@jax.jit
def by_sorting(stack: dict) -> jax.Array:
    columns = []
    for x in tensors(stack):
        q = jnp.quantile(x, jnp.asarray(QUARTILES, x.dtype), axis=1)
        columns += [*q, jnp.std(x, axis=1), jnp.mean(x, axis=1)]
    return jnp.stack(columns, axis=1)


def seconds(cases: dict[str, Callable], repeats: int) -> dict[str, tuple[float, float]]:
    """Median wall and processor seconds of each case, taken in turns, the first turn not counted."""
    found: dict[str, list] = {name: [] for name in cases}
    for turn in range(repeats + 1):
        for name, run in cases.items():
            wall, cpu = time.perf_counter(), time.process_time()
            jax.block_until_ready(run())
            if turn:
                found[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {name: tuple(std.median(x) for x in zip(*pairs)) for name, pairs in found.items()}


def main() -> None:
    options = arguments(
        __doc__, lambda parser: parser.add_argument("--networks", type=int, default=4096)
    )
    report = Report(options)
    for name, shapes in LAYOUTS.items():
        size = sum(int(np.prod(shape)) for shape in shapes)
        count = min(options.networks, 2**26 // size)
        host = stack_of(shapes, count)
        stack, flat = jax.tree.map(jnp.asarray, host), tensors(host)
        cases = {
            "ours": lambda stack=stack: statistics(stack),
            "numpy": lambda flat=flat: by_numpy(flat),
            "sorting": lambda stack=stack: by_sorting(stack),
        }
        times = seconds(cases, report.repeats)
        some = min(count, 256)
        truth = by_numpy([x[:some] for x in flat], np.float64)
        error = np.abs(np.asarray(statistics(stack))[:some] - truth).max()
        case = f"{name}, {count} networks"
        report.add(case, "steady_s", times["ours"][0], times["numpy"][0], "batched numpy")
        report.add(case, "cpu_s", times["ours"][1], times["numpy"][1], "batched numpy")
        report.add(case, "steady_s", times["ours"][0], times["sorting"][0], "jnp.quantile, jitted")
        report.add(case, "networks_per_s", count / times["ours"][0])
        report.add(case, "error", error)


if __name__ == "__main__":
    main()

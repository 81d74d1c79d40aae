"""Networks trained a second: a whole population against one at a time.

Cases: SIRENs (2-32-32-1) on images of 28x28, all pixels a step; small CNNs (4,970 weights, the small
CNN zoo's) and digit MLPs (64-16-16-10), batches of 64; Adam, on random data of those shapes. A network
trains for a fixed number of steps, and every contestant makes the same number of updates of the same
size. References:

loop     a Python loop over single fits, each step one call of a jitted function
torch    `torch.func`: vmap over grad with Adam written out, on the same cores (left out without torch)
products the floor: the bare matrix products of forward and backward passes, batched over networks

`--torch PYTHON` runs the torch side in another interpreter, where torch is installed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.bench._report import Report, arguments
from wsljax import train, zoo


class Case(NamedTuple):
    """One kind of population; `products` are the sizes (m, k, n) of a step's matrix products."""

    function: zoo.Function
    loss: str
    data: Any
    own: Any
    batch: int | None
    models: int
    steps: int
    products: tuple[tuple[int, int, int], ...]


def cases(scale: float) -> dict[str, Case]:
    draw = np.random.default_rng(0)
    images = draw.uniform(size=(64, 784, 1)).astype(np.float32)
    digits = draw.normal(size=(1437, 64)).astype(np.float32), draw.integers(0, 10, 1437)
    pictures = draw.uniform(size=(512, 28, 28, 1)).astype(np.float32), draw.integers(0, 10, 512)
    count = lambda n: max(8, int(n * scale))  # noqa: E731
    siren, mlp = (
        ((784, 2, 32), (784, 32, 32), (784, 32, 1)),
        ((64, 64, 16), (64, 16, 16), (64, 16, 10)),
    )
    cnn = ((64 * 169, 9, 16), (64 * 36, 144, 16), (64 * 4, 144, 16), (64, 16, 10))
    return {
        "siren 2-32-32-1": Case(
            zoo.Function("siren"), "mse", zoo.grid(28, 28), images, None, count(64), 50, siren
        ),
        "cnn 4970": Case(
            zoo.Function("cnn"), "cross_entropy", pictures, None, 64, count(32), 20, cnn
        ),
        "mlp 64-16-16-10": Case(
            zoo.Function("mlp"), "cross_entropy", digits, None, 64, count(512), 200, mlp
        ),
    }


def population_seconds(case: Case, mesh) -> float:
    """`zoo.train` from the end of its first segment, which compiles, to its end; for all steps."""
    options: dict[str, Any] = {"key": jax.random.key(0), "batch_size": case.batch, "mesh": mesh}
    hyper = {"seed": np.arange(case.models), "learning_rate": np.full(case.models, 1e-3)}
    if case.own is not None:
        hyper["image"] = np.arange(case.models) % len(case.own)
        options["own"] = ("image", case.own)
    seen: list[tuple[int, float]] = []
    zoo.train(
        case.function, case.loss, case.data, hyper, steps=3 * case.steps, every=case.steps,
        log=lambda done, metrics: seen.append((done, time.perf_counter())), **options,
    )  # fmt: skip
    return (seen[-1][1] - seen[0][1]) / 2


def loop_seconds(case: Case, models: int = 4) -> float:
    """A network at a time, a jitted step at a time, as one would write it; for all by proportion."""
    optimiser = optax.adam(1e-3)
    loss = zoo.supervised(case.function, case.loss)
    data = jax.tree.map(jnp.asarray, case.data)

    @jax.jit
    def step(params, state, batch):
        grads = jax.grad(loss)(params, {}, batch, key=None)
        updates, state = optimiser.update(grads, state)
        return optax.apply_updates(params, updates), state

    def fit(number, steps):
        params = case.function.init({}, key=jax.random.key(number))
        state, draw = optimiser.init(params), np.random.default_rng(number)
        for _ in range(steps):
            if case.own is not None:
                batch = (data, case.own[number % len(case.own)])
            else:
                chosen = draw.integers(0, len(data[0]), case.batch)
                batch = (case.data[0][chosen], case.data[1][chosen])
            params, state = step(params, state, batch)
        jax.block_until_ready(params)

    fit(0, 3)
    start = time.perf_counter()
    for number in range(models):
        fit(number, case.steps)
    return (time.perf_counter() - start) / models * case.models


def products_seconds(case: Case) -> float:
    """Forward products, and the two of the backward pass for each (one for the first layer)."""
    lanes = min(case.models, 16)
    shapes = case.products
    keys = jax.random.split(jax.random.key(1), len(shapes))
    inputs = [
        jax.random.normal(k, (lanes, m, n)) for k, (m, n, _) in zip(keys, shapes, strict=True)
    ]
    kernels = [
        jax.random.normal(k, (lanes, n, o)) for k, (_, n, o) in zip(keys, shapes, strict=True)
    ]

    @jax.jit
    def steps(inputs, kernels):
        def body(_, kernels):
            new = []
            for i, (x, w) in enumerate(zip(inputs, kernels, strict=True)):
                y = x @ w
                grad = jnp.swapaxes(x, 1, 2) @ y
                if i:
                    back = y @ jnp.swapaxes(w, 1, 2)
                    grad = grad + 0 * back[:, :1, :1]
                new.append(w - 1e-9 * grad)
            return new

        return jax.lax.fori_loop(0, case.steps, body, kernels)

    jax.block_until_ready(steps(inputs, kernels))
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        jax.block_until_ready(steps(inputs, kernels))
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds)) / lanes * case.models


def torch_seconds(name: str, case: Case, python: str) -> float | None:
    """The same updates with torch.func, in an interpreter that has torch."""
    script = Path(__file__).with_name("_zoo_torch.py")
    what = {"case": name, "models": case.models, "steps": case.steps}
    done = subprocess.run(
        [python, str(script), json.dumps(what)], capture_output=True, text=True, timeout=580
    )
    if done.returncode:
        print(f"torch was left out: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    return float(done.stdout.split()[-1])


def main() -> None:
    def extend(parser):
        parser.add_argument("--scale", type=float, default=1.0, help="share of the networks")
        parser.add_argument("--torch", default=sys.executable, help="an interpreter with torch")
        parser.add_argument("--only", default="", help="cases whose name contains this")
        parser.add_argument("--devices", type=int, default=1, help="split the networks over these")

    options = arguments(__doc__, extend)
    if options.devices > 1:
        jax.config.update("jax_num_cpu_devices", options.devices)  # where there is nothing else
    report = Report(options)
    mesh = train.make_mesh() if options.devices > 1 else None
    for name, case in cases(options.scale).items():
        if options.only not in name:
            continue
        contestants = {
            "ours": lambda case=case: population_seconds(case, mesh),
            "python loop over jitted steps": lambda case=case: loop_seconds(case),
            "matrix products alone": lambda case=case: products_seconds(case),
            "torch.func vmap": lambda case=case, name=name: torch_seconds(
                name, case, options.torch
            ),
        }
        found: dict[str, list[float]] = {key: [] for key in contestants}
        for _ in range(max(1, options.repeats // 3)):
            for key, run in contestants.items():
                seconds = run()
                if seconds is not None:
                    found[key].append(seconds)
        ours = float(np.median(found.pop("ours")))
        report.add(name, "models_per_s", case.models / ours)
        for key, seconds in found.items():
            if seconds:
                report.add(name, "train_s", ours, float(np.median(seconds)), key)


if __name__ == "__main__":
    main()

"""Can alignment be learned? One pass of an equivariant network, beside weight matching, on new networks.

`python -m experiments.learned_matching --size cpu` trains classifiers of scikit-learn's digits, learns to align
them (A. Navon et al., "Equivariant Deep Weight Space Alignment", 2024: from moved, noisy copies, and from the
training loss between any two), and aligns pairs that were not learned from. Measured are the distance that
remains, as a share of that before, the barriers of test loss and test accuracy along the line, how many
of the units of moved copies find their place, and the time of a pair. Nothing is selected.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from configs._metanetworks import SIZES
from configs.learned_matching import Config, Row, get_config
from experiments._digits import load_digits
from experiments._metanetworks.study import add_seeds, chosen_rows, with_seeds
from experiments._metanetworks.table import report, run_rows, text
from wsljax import representation, symmetry, train, zoo
from wsljax.applications.learned_matching import LearnedMatcher, fit_matcher, share_found
from wsljax.understanding.connectivity import barriers
from wsljax.understanding.matching import weight_matching

SCORES = ("distance", "loss_barrier", "accuracy_barrier", "copies_found", "milliseconds_a_pair")


def run(config: Config, folder: Path, *, command: str, quiet: bool = False) -> dict[str, Any]:
    """The study; returns what is written to `results.json` in the folder."""
    about = {k: v for k, v in dataclasses.asdict(config).items() if k not in ("rows", "seeds")}
    pairs = cache(lambda: Pairs(config, quiet))  # networks are trained only if a row is missing
    rows = run_rows(
        config.rows, config.seeds, lambda row, seed: pairs().one(row, seed), folder / "rows.jsonl",
        about=about, quiet=quiet,
    )  # fmt: skip
    if not quiet:
        print(text(rows, SCORES))
    return report(folder / "results.json", command=command, about=about, rows=rows)


class Pairs:
    """Networks that are learned from, and pairs of others, which all rows align."""

    def __init__(self, config: Config, quiet: bool):
        self.config, self.quiet = config, quiet
        digits = load_digits(seed=config.seed)
        self.train, self.test = digits[:2], digits[2:]
        function = zoo.Function("mlp", {"widths": config.widths})
        count = config.networks + 2 * config.pairs
        population = zoo.train(
            function, "cross_entropy", self.train,
            {"seed": jnp.arange(count), "learning_rate": jnp.full(count, config.learning_rate)},
            steps=config.network_steps, key=jax.random.key(config.seed),
        )  # fmt: skip
        self.apply = function.apply
        params = population.params
        self.known = jax.tree.map(lambda x: x[: config.networks], params)
        others = jax.tree.map(lambda x: x[config.networks :], params)
        self.first = jax.tree.map(lambda x: x[::2], others)
        self.second = jax.tree.map(lambda x: x[1::2], others)
        self.spec = symmetry.infer(
            lambda p, x: function.apply(p, x), population[0], self.train[0][:4], kinds=("permutation",)
        )  # fmt: skip
        self.matchers: dict[Any, LearnedMatcher] = {}

    def one(self, row: Row, seed: int) -> dict[str, Any]:
        """Scores of a row."""
        start = time.perf_counter()
        find = self._finder(row, seed)
        ready = time.perf_counter()
        jax.block_until_ready(find(self.first, self.second))  # compiled
        begun = time.perf_counter()
        elements = jax.block_until_ready(find(self.first, self.second))
        seconds = time.perf_counter() - begun
        act = jax.jit(jax.vmap(self.spec.act))
        aligned = act(elements, self.second)
        before, after = (_apart(self.first, other) for other in (self.second, aligned))
        between = jax.jit(
            partial(barriers, self._test, points=self.config.points, higher=(False, True), pairs_at_once=8)
        )  # fmt: skip
        barrier = between(self.first, aligned).barrier
        truth, moved = self._copies()
        scores = {
            "distance": jnp.mean(after / before),
            "loss_barrier": jnp.mean(barrier[0]),
            "accuracy_barrier": jnp.mean(barrier[1]),
            "copies_found": share_found(find(self.first, moved), truth),
            "milliseconds_a_pair": 1000 * seconds / self.config.pairs,
        }
        learnt = row.family == "learned"
        return {
            "scores": {name: float(value) for name, value in scores.items()},
            "seconds": ready - start,
            "parameters": _count(self._matcher(row, seed)) if learnt else None,
        }

    def _test(self, params: Any) -> tuple[jax.Array, jax.Array]:
        """Loss and accuracy on test images."""
        x, y = self.test
        said = self.apply(params, x)
        return _loss(said, y), jnp.mean(said.argmax(-1) == y)

    def _copies(self) -> tuple[Any, Any]:
        """Elements, and copies of the first networks with half the most noise, that these bring back."""
        key, noise = jax.random.split(jax.random.key(self.config.seed + 1))
        elements = jax.vmap(self.spec.sample)(jax.random.split(key, self.config.pairs))
        leaves, treedef = jax.tree.flatten(self.first)
        sizes = [self.config.noise / 2 * jnp.std(x) for x in jax.tree.leaves(self.known)]
        noisy = [
            x + size * jax.random.normal(jax.random.fold_in(noise, i), x.shape)
            for i, (x, size) in enumerate(zip(leaves, sizes, strict=True))
        ]
        back = jax.vmap(lambda g, p: self.spec.act(self.spec.inverse(g), p))
        return elements, back(elements, treedef.unflatten(noisy))

    def _finder(self, row: Row, seed: int) -> Callable[[Any, Any], Any]:
        """`find(firsts, seconds)`, elements that align each second network."""
        if row.family == "none":
            count, one = self.config.pairs, self.spec.identity()
            whole = {n: jnp.broadcast_to(g, (count, *g.shape)) for n, g in one.items()}
            return lambda a, b: whole
        match = partial(weight_matching, spec=self.spec, key=jax.random.key(seed))
        if row.family == "matching":
            return lambda a, b: match(a, b).element
        if row.family != "learned":
            raise ValueError(f"family {row.family!r}: none, matching or learned.")
        say = eqx.filter_jit(eqx.filter_vmap(self._matcher(row, seed), in_axes=(0, 0)))
        if not row.after:
            return say
        return lambda a, b: match(a, b, init=say(a, b), start="identity").element

    def _matcher(self, row: Row, seed: int) -> LearnedMatcher:
        config = self.config
        steps = config.steps if row.steps is None else row.steps
        tag = row.planted, row.between, steps, seed
        if tag not in self.matchers:
            key_draw, key_fit = jax.random.split(jax.random.key(seed))
            matcher = LearnedMatcher(
                self.spec, config.channels, config.layers, key=key_draw, method=config.method,
                scales=representation.block_scales(self.spec, self.known),
            )  # fmt: skip
            self.matchers[tag] = self._learned(matcher, row, steps, key_fit) if steps else matcher
        return self.matchers[tag]

    def _learned(self, matcher: LearnedMatcher, row: Row, steps: int, key: jax.Array) -> Any:
        config = self.config
        x, y = (z[: config.images] for z in self.train)

        def loss(params: Any) -> jax.Array:
            return _loss(self.apply(params, x), y)

        rate = optax.warmup_cosine_decay_schedule(
            0.0, config.matcher_rate, max(1, steps // 10), max(2, steps)
        )
        with train.progress(steps, "matcher", enabled=False if self.quiet else None) as bar:
            return fit_matcher(
                matcher, self.known, steps=steps, batch_size=config.batch, key=key, log=bar,
                optimiser=optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate)),
                noise=config.noise, planted=row.planted, between=row.between,
                loss=loss if row.between else None,
            ).model  # fmt: skip


def _loss(said: jax.Array, labels: jax.Array) -> jax.Array:
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(said, labels))


def _apart(firsts: Any, seconds: Any) -> jax.Array:
    """Distances of pairs."""
    each = [
        jnp.sum(jnp.square(x - y), tuple(range(1, x.ndim)))
        for x, y in zip(*map(jax.tree.leaves, (firsts, seconds)), strict=True)
    ]
    return jnp.sqrt(sum(each))


def _count(model: Any) -> int:
    return sum(x.size for x in jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array)))


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """The command line."""
    parser = argparse.ArgumentParser(prog="experiments.learned_matching", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="cpu")
    parser.add_argument("--rows", nargs="*", help="rows of the table; default all")
    add_seeds(parser)
    parser.add_argument("--folder", type=Path, help="default runs/learned_matching/<size>")
    parser.add_argument("--quiet", action="store_true")
    given = parser.parse_args(arguments)
    config = get_config(given.size)
    command = f"python -m experiments.learned_matching --size {given.size}"
    if given.rows is not None:
        config = dataclasses.replace(config, rows=chosen_rows(dict(config.rows), given.rows))
    config, command = with_seeds(config, command, given.seeds)
    folder = given.folder or Path("runs/learned_matching") / given.size
    return run(config, folder, command=command, quiet=given.quiet)


if __name__ == "__main__":
    main()

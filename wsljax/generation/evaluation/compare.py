"""`compare`: several generators in one table, with held-out networks and trivial baselines."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax

from ..generator import Generator
from .audit import Audit
from .report import Report, number

COLUMNS = (
    "quality/{score} mean", "weights/ratio", "quotient/ratio", "quotient/Z_U",
    "predictions/wrong overlap", "new and good/{last}", "diversity of {space}/1-NNA",
    "diversity of {space}/coverage",
)  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """Reports side by side.

    Attributes:
        reports: `{name: Report}`, held-out networks first.
        seconds: how long drawing the samples took, where a generator drew them.
    """

    reports: dict[str, Report]
    seconds: dict[str, float]

    def __getitem__(self, name: str) -> Report:
        return self.reports[name]

    def headline(self) -> tuple[str, ...]:
        """The values that `str` shows, of those that were measured."""
        values = next(iter(self.reports.values())).values
        score = next((n for n in values if n.startswith("quality/")), "quality/ mean")
        last = [n for n in values if n.startswith("new and good/")]
        outputs = any(n.startswith("diversity of outputs/") for n in values)
        words = {
            "score": score.removeprefix("quality/").removesuffix(" mean"),
            "last": _strictest(last),
            "space": "outputs" if outputs else "quotient",
        }
        return tuple(n for n in (c.format(**words) for c in COLUMNS) if n in values)

    def table(self, values: tuple[str, ...] | None = None, digits: int = 3) -> str:
        """The reports as rows of plain text.

        Args:
            values: names of values of the reports (default: `headline()`).
            digits: after the point.
        """
        values = self.headline() if values is None else values
        head = ["networks", *values]
        rows = [
            [name, *(number(r.values[v], digits) if v in r.values else "-" for v in values)]
            for name, r in self.reports.items()
        ]
        wide = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, wide)).rstrip() for row in (head, *rows)]
        for name, r in self.reports.items():
            lines += [f"! {name}: {flag}" for flag in r.flags]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.table()

    def to_json(self) -> str:
        """As JSON text."""
        reports = {name: json.loads(r.to_json()) for name, r in self.reports.items()}
        return json.dumps({"reports": reports, "seconds": self.seconds}, allow_nan=False)


def compare(
    candidates: Mapping[str, Any],
    /,
    training: Any,
    held_out: Any,
    *,
    key: jax.Array,
    count: int = 256,
    baselines: bool = True,
    audit: Audit | None = None,
    **options: Any,
) -> Comparison:
    """Judge several generators, or sets of networks, beside held-out networks and trivial baselines.

    Args:
        candidates: name -> a `Generator`, a `Population`, or stacked params.
        training, held_out: as in `evaluate`.
        key: a typed key.
        count: networks to draw from each generator.
        baselines: whether to add `trivial_baselines(training)`: copies, noise, interpolation, soups,
            Gaussians, kernel density; raw and aligned where there is a spec.
        audit: one that was made before, of the same networks; then there are no `options`.
        **options: of `evaluate`: data, scores, spec, the `candidates` of its search and so on.

    Returns:
        A `Comparison`; `print` it.

    Raises:
        ValueError: as `evaluate`; or `options` beside an `audit`.

    Example:
        >>> import jax.numpy as jnp
        >>> from wsljax import zoo
        >>> function = zoo.Function("mlp", {"widths": (2, 3)})
        >>> params = jax.vmap(lambda k: function.init(key=k))(jax.random.split(jax.random.key(0), 12))
        >>> networks = zoo.Population(params, {"run": jnp.arange(12)}, function=function)
        >>> found = compare(
        ...     {"copies": networks.take([0, 1, 2])}, networks.take(slice(0, 6)),
        ...     networks.take(slice(6, 12)), key=jax.random.key(2), baselines=False, resamples=10,
        ...     scores={"norm": lambda p: -jnp.sum(p["dense_0"]["kernel"] ** 2)},
        ... )
        >>> list(found.reports), found["copies"]["weights/copies"]
        (['held-out networks', 'copies'], 1.0)
    """
    if audit is not None and options:
        raise ValueError(f"an `audit` has its options already; {sorted(options)} are not read.")
    audit = Audit(training, held_out, key=key, **options) if audit is None else audit
    everything = dict(candidates)
    if baselines:
        from ..baselines import trivial_baselines

        key_of_baselines = jax.random.fold_in(key, 2)
        found = trivial_baselines(audit.training, audit.spec, key=key_of_baselines)
        everything = {**found, **everything}
    held_out_report = audit.held_out_report()
    reports, seconds = {held_out_report.name: held_out_report}, {}
    for number_, (name, candidate) in enumerate(everything.items()):
        if isinstance(candidate, Generator):
            began = time.perf_counter()
            key_of_one = jax.random.fold_in(jax.random.fold_in(key, 3), number_)
            candidate = jax.block_until_ready(candidate.sample(key_of_one, count))
            seconds[name] = time.perf_counter() - began
        reports[name] = audit.report(candidate, name)
    return Comparison(reports, seconds)


def _strictest(names: list[str]) -> str:
    """The last threshold at the first bar, as the table of N&P shows it."""
    bars = list(dict.fromkeys(n.split(", ", 1)[1] for n in names))
    first = [n for n in names if bars and n.endswith(bars[0])]
    return first[-1].removeprefix("new and good/") if first else ""

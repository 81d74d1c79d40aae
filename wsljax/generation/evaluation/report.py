"""Reports: what was measured of one set of networks, as text and as JSON."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...train.metrics import Interval


@dataclass(frozen=True)
class Report:
    """What `evaluate` measured of one set of networks.

    Attributes:
        name: what the networks are.
        count: how many.
        values: `"section/what"` -> number with its 95% bootstrap interval (over networks; of MMD and
            coverage over reference networks; NaN where there is none).
        columns: one value for each network: scores, distances, ratios.
        flags: what a reader of the numbers must know.

    Example:
        >>> print(Report("copies", 2, {"weights/ratio": Interval(0.0, 0.0, 0.0)}, {}, ("2 copies",)))
        copies: 2 networks
        weights
          ratio  0.000 [0.000, 0.000]
        ! 2 copies
    """

    name: str
    count: int
    values: dict[str, Interval]
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    flags: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> float:
        """The value without its interval.

        Raises:
            KeyError: it was not measured; names what was.
        """
        if name not in self.values:
            raise KeyError(f"{name!r} was not measured; there are {', '.join(self.values)}.")
        return self.values[name].value

    def __str__(self) -> str:
        lines, section = [f"{self.name}: {self.count} networks"], None
        width = max((len(n.split("/", 1)[1]) for n in self.values), default=0)
        for name, value in self.values.items():
            here, what = name.split("/", 1)
            if here != section:
                section = here
                lines.append(here)
            lines.append(f"  {what:<{width}}  {number(value)}")
        return "\n".join(lines + [f"! {flag}" for flag in self.flags])

    def to_json(self, columns: bool = False) -> str:
        """As JSON text; what is not finite becomes null.

        Args:
            columns: whether to keep the values of each network, too.
        """
        out: dict[str, Any] = {"name": self.name, "count": self.count, "flags": list(self.flags)}
        out["values"] = {
            name: {"value": plain(v.value), "low": plain(v.low), "high": plain(v.high)}
            for name, v in self.values.items()
        }
        if columns:
            out["columns"] = {n: [plain(x) for x in c] for n, c in self.columns.items()}
        return json.dumps(out, allow_nan=False)


def number(value: Interval, digits: int = 3) -> str:
    """A value and its interval, or the value alone where it has none."""
    if math.isnan(value.low):
        return f"{value.value:.{digits}f}"
    return f"{value.value:.{digits}f} [{value.low:.{digits}f}, {value.high:.{digits}f}]"


def plain(value: Any) -> float | int | None:
    """A number that JSON knows."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

"""How much of what leaves a network alone do the generators explain? Every architecture of the tests.

`python -m experiments.certificates` infers the spec of each, all kinds of generators included, and compares
the dimension of its orbit with the nullity of the Jacobian (`symmetry.completeness`). Every gap is taken apart
by measurement (see `experiments/_certificates_gaps.py`). The table goes to `results/certificates.json`, one
JSON line a case; cases that stand there already for the same code are not run again.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import json
import select
import subprocess
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments._certificates_gaps import gap
from tests.architectures import quick_random, registry
from wsljax import symmetry

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "experiments" / "results" / "certificates.json"
LARGEST = 1500
"""Real numbers in the parameters of the largest network whose Jacobian is taken apart."""
WORDS = {
    "inputs": "gone with more, wider or longer inputs",
    "these parameters": "gone at random parameters (dead or always-on units)",
    "epsilon": "but for an epsilon: generators reported as approximate",
    "steps": "null in the derivative alone: finite steps change the function (it jumps, or a gradient is stopped)",
    "missing": "fields A p + b that are null at all parameters, and that no generator has",
    "parameters": "directions that depend on the parameters, held along finite curves",
    "not told apart": "too large to be told apart further",
}  # fmt: skip


def version() -> str:
    """What the figures depend on: the sources of inference and of this experiment."""
    paths = sorted((ROOT / "wsljax" / "symmetry").rglob("*.py"))
    paths += sorted((ROOT / "experiments").glob("_certificates_*.py"))
    return hashlib.sha256(b"".join(p.read_bytes() for p in paths)).hexdigest()[:12]


def architectures() -> dict[str, Any]:
    """The registry's cases, without those about inputs and outputs that move."""
    return {name: case for name, case in registry.load().items() if not case.free}


def size_of(case) -> int:
    """Numbers in the parameters of a case."""
    _, params, _ = case.build(quick_random.key(0))
    return int(sum(np.size(x) for x in jax.tree.leaves(params)))


def certificate(name: str) -> dict[str, Any]:
    """The line of one case."""
    case = registry.CASES[name]
    fn, params, inputs = case.build(quick_random.key(0))
    size = int(sum(np.size(x) for x in jax.tree.leaves(params)))
    out: dict[str, Any] = {"name": name, "parameters": size}
    if size > LARGEST:
        return out | {"reason": f"not looked at: more than {LARGEST} parameters"}
    start = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            spec = symmetry.infer(fn, params, *inputs, **case.infer_kwargs)
        out["infer_seconds"] = round(time.perf_counter() - start, 2)
        out |= gap(fn, params, spec, inputs)
    except Exception as e:  # a case that cannot be looked at is a line of the table
        out["reason"] = f"cannot be differentiated in float64: {type(e).__name__}: {e}"[:200]
    out["seconds"] = round(time.perf_counter() - start, 2)
    return out | {"reason": out.get("reason") or reason(out)}


def reason(line: dict[str, Any]) -> str:
    """The gap in words."""
    parts = [f"{n} {WORDS[kind]}" for kind, n in line["kinds"].items()]
    if line["kinds"].get("parameters") or line["kinds"].get("missing"):
        parts.append("in " + ", ".join(line["where"]))
    if line.get("explained", 0) > line.get("nullity", 0):
        more = line["explained"] - line["nullity"]
        parts.append(f"{more} generators more than null directions: they hold but for an epsilon that "
                     "is below the rounding of the function")  # fmt: skip
    if line.get("float32") and parts:
        parts.append("computed in float32 inside")
    return "; ".join(parts)


def serve() -> None:
    """Names come on standard input, one a line; their lines go to standard output."""
    architectures()
    for number, name in enumerate(sys.stdin):
        print(json.dumps(certificate(name.strip()), default=float), flush=True)
        if number % 8 == 7:
            jax.clear_caches()


class Worker:
    """A process that looks at one case after the other, and is ended when one takes too long."""

    def __init__(self):
        self.process: subprocess.Popen | None = None

    def ask(self, name: str, limit: float) -> dict[str, Any]:
        if self.process is None or self.process.poll() is not None:
            command = [sys.executable, "-m", "experiments.certificates", "--serve"]
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
            )
            limit += 60  # to start
        process = self.process
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(name + "\n")
        process.stdin.flush()
        if not select.select([process.stdout], [], [], limit)[0]:
            self.end()
            return {"name": name, "reason": f"not looked at: takes more than {limit:g} seconds"}
        text = process.stdout.readline()
        if not text:
            return {"name": name, "reason": "not looked at: the process ended"}
        return json.loads(text)

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def read(path: Path) -> dict[str, dict[str, Any]]:
    if not path.exists():
        return {}
    return {line["name"]: line for line in map(json.loads, path.read_text().splitlines())}


def write(path: Path, lines: dict[str, dict[str, Any]]) -> None:
    ordered = sorted(lines.values(), key=lambda x: (x.get("parameters", np.inf), x["name"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(x) + "\n" for x in ordered))


def table(lines: dict[str, dict[str, Any]]) -> str:
    """All cases, then how many are explained whole and what the gaps of the others are."""
    rows = []
    kinds: Counter = Counter()
    equal = 0
    for x in sorted(lines.values(), key=lambda x: (x.get("parameters", np.inf), x["name"])):
        found = f"{x['explained']}/{x['nullity']}" if "explained" in x else "-"
        equal += "explained" in x and x["explained"] == x["nullity"]
        kinds.update(x.get("kinds", {}).keys())
        size, seconds = str(x.get("parameters", "?")), x.get("seconds", float("nan"))
        rows.append(f"{x['name']:42} {size:>6} {found:>10} {seconds:7.1f}  {x['reason']}")
    looked = sum("explained" in x for x in lines.values())
    head = f"{'case':42} {'params':>6} {'explained':>10} {'seconds':>7}  reason of the gap"
    tail = [f"{equal} of {looked} cases are explained whole; {len(lines) - looked} not looked at"]
    tail += [f"{n:4} cases with gaps: {WORDS[kind]}" for kind, n in kinds.most_common()]
    return "\n".join([head, *rows, "", *tail])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=["*"], help="cases to run, as in 'raw/*lora*'")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--limit", type=float, default=120.0, help="seconds for one case")
    parser.add_argument("--table", action="store_true", help="print what stands there, run nothing")
    parser.add_argument(
        "--keep", action="store_true", help="keep lines of other versions of the code"
    )
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve()
    lines = read(options.out)
    if not options.table:
        run(options, lines)
    print(table(lines))


def run(options: argparse.Namespace, lines: dict[str, dict[str, Any]]) -> None:
    """Run what is missing, small networks first, writing after each."""
    now = version()
    sizes = {}
    cases = architectures()
    for name, case in cases.items():
        if any(fnmatch.fnmatch(name, pattern) for pattern in options.only):
            known = lines.get(name, {})
            if known.get("version") == now or options.keep and "version" in known:
                continue
            sizes[name] = known["parameters"] if "parameters" in known else size_of(case)
    worker = Worker()
    for name in sorted(sizes, key=lambda n: (sizes[n], n)):
        line = worker.ask(name, options.limit) | {"version": now}
        lines[name] = {"name": name, "parameters": sizes[name]} | line
        write(options.out, lines)
        figures = f"{line['explained']}/{line['nullity']}" if "explained" in line else "-"
        print(f"{name} {figures} {line.get('seconds')} {line['reason']}", flush=True)
    worker.end()


if __name__ == "__main__":
    main()

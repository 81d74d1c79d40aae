"""What it costs to keep networks on disk: 100,000 INRs of 1,185 float32 parameters, 474 MB.

`python -m experiments.bench.zoo_store [--models N] [--folder F] [--out FILE]`.

The reference of all times is a copy of the same files (`shutil.copyfile`, which lets the kernel copy);
target: at most 1.5 times as long, a ratio of at least 0.67.

* write: from memory, each shard flushed to the disk (fsync), as is each file of the copy.
* read: every network once in shuffled order, 512 at a time, out of files that are opened anew and
  verified once each. "warm" has the files in the page cache, as has the copy; "cold" has them dropped
  from it before, as before the copy. The copy is flushed, or stays in the cache, as the line says.
* single reads: networks a second, one at a time at random places; the reference is a row of a
  `numpy.memmap` of one flat array, unverified. The ratio is reference/ours of the seconds for one.
* memory: what the process holds at most beyond what it had, in 1 ms samples of a process of its own;
  the reference is one shard. Private memory is its own; mapped memory is the system's page cache,
  which is given back when memory is short (`zoo.open(..., resident=...)` bounds it).
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from experiments.bench._report import Report, arguments
from wsljax.zoo import Population, store
from wsljax.zoo.store.shards import RESIDENT

WIDTHS = (2, 32, 32, 1)
BATCH = 512
SHARD = store.SHARD_BYTES


def inrs(models: int, seed: int = 0) -> Population:
    """Random weights of the size of a SIREN's; what is in them makes no difference to a disk."""
    generator = np.random.default_rng(seed)
    params = {}
    for k, (n, m) in enumerate(zip(WIDTHS[:-1], WIDTHS[1:], strict=True)):
        kernel = generator.standard_normal((models, n, m), np.float32)
        bias = generator.standard_normal((models, m), np.float32)
        params[f"dense_{k}"] = {"kernel": kernel, "bias": bias}
    return Population(params, {"label": generator.integers(10, size=models).astype(np.int32)})


def copy(source: Path, target: Path, *, flush: bool) -> None:
    target.mkdir()
    for path in sorted(source.iterdir()):
        shutil.copyfile(path, target / path.name)
        if flush:
            with (target / path.name).open("rb+") as file:
                os.fsync(file.fileno())


def drop_from_cache(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def in_turns(
    cases: dict[str, Callable[[], None]], repeats: int, before: Callable[[], None] = lambda: None
) -> dict[str, float]:
    """Median seconds of each; they run alternately, and the first turn does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(repeats + 1):
        for name, run in cases.items():
            before()
            start = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def read_shuffled(folder: Path, resident: int = RESIDENT) -> None:
    stored = store.open(folder, resident=resident)
    order = np.random.default_rng(0).permutation(len(stored))
    for start in range(0, len(order), BATCH):
        stored.take(order[start : start + BATCH])


def read_in_order(folder: Path) -> None:
    for _ in store.open(folder).chunks(BATCH):
        pass


def read_source(folder: Path) -> None:
    """One record a batch, as grain reads it in the process itself."""
    import grain

    dataset = grain.MapDataset.source(store.open(folder).source(batch_size=BATCH, seed=0))
    options = grain.ReadOptions(num_threads=os.cpu_count() or 1, prefetch_buffer_size=4)
    for _ in dataset.to_iter_dataset(options):
        pass


def read_records(folder: Path, batches: int) -> None:
    """One record a network, shuffled and batched by grain."""
    import grain

    dataset = grain.MapDataset.source(store.open(folder).source()).shuffle(seed=0).batch(BATCH)
    for number in range(batches):
        dataset[number]


def times(report: Report, folder: Path, models: int) -> None:
    population, saved = inrs(models), folder / "zoo"
    size = sum(x.nbytes for layer in population.params.values() for x in layer.values())
    what = f"{models:,} INRs of {size // models // 4} parameters"
    written, copied = folder / "written", folder / "copied"

    def clear() -> None:
        shutil.rmtree(written, ignore_errors=True)
        shutil.rmtree(copied, ignore_errors=True)

    def write_pieces() -> None:
        with store.Writer(written) as writer:
            for start in range(0, models, 1000):
                writer.write(population.take(slice(start, start + 1000)))

    store.save(population, saved)
    found = in_turns(
        {
            "save": lambda: store.save(population, written),
            "writer": write_pieces,
            "copy": lambda: copy(saved, copied, flush=True),
        },
        report.repeats,
        clear,
    )
    reference = "copy of the files, each flushed"
    report.add(f"write {what}", "seconds", found["save"], found["copy"], reference)
    report.add(
        f"write {what}, 1,000 at a time", "seconds", found["writer"], found["copy"], reference
    )
    warm = {
        "read shuffled": lambda: read_shuffled(saved),
        "read shuffled, 64 MiB resident": lambda: read_shuffled(saved, SHARD),
        "read shuffled through grain, a record a batch": lambda: read_source(saved),
        "read in order": lambda: read_in_order(saved),
        "copy": lambda: copy(saved, copied, flush=True),
        "unflushed": lambda: copy(saved, copied, flush=False),
    }
    found = in_turns(warm, report.repeats, clear)
    for case in list(warm)[:-2]:
        report.add(f"{case}, warm, {what}", "seconds", found[case], found["copy"], reference)
    name, cached = f"read shuffled, warm, {what}", "copy of the files, left in the cache"
    report.add(name, "seconds", found["read shuffled"], found["unflushed"], cached)
    batches = max(1, min(20, models // BATCH))
    records = in_turns({"grain": lambda: read_records(saved, batches)}, 1)["grain"]
    share = found["copy"] * batches * BATCH / models
    name = f"read shuffled through grain, a record a network, {batches} batches, warm"
    report.add(name, "seconds", records, share, "copy of as many bytes, flushed")

    def cold() -> None:
        clear()
        drop_from_cache(saved)

    found = in_turns(
        {
            "read": lambda: read_shuffled(saved),
            "copy": lambda: copy(saved, copied, flush=True),
        },
        min(3, report.repeats),
        cold,
    )
    name = f"read shuffled, cold, {what}"
    report.add(name, "seconds", found["read"], found["copy"], reference)
    clear()


def single_reads(report: Report, folder: Path, models: int) -> None:
    flat = folder / "flat.bin"
    row = 4 * sum(n * m + m for n, m in zip(WIDTHS[:-1], WIDTHS[1:], strict=True))
    with flat.open("wb") as file:
        for _ in range(models):
            file.write(os.urandom(row))
    rows = np.memmap(flat, np.float32, "r").reshape(models, -1)
    stored = store.open(folder / "zoo")
    stored.verify_checksums()
    order = np.random.default_rng(1).permutation(models)[:5000]

    def ours() -> None:
        for index in order:
            stored[index]

    def reference() -> None:
        for index in order:
            np.array(rows[index])

    found = in_turns({"ours": ours, "memmap": reference}, report.repeats)
    name = "single networks at random, verified before, warm"
    ours_s, reference_s = found["ours"] / len(order), found["memmap"] / len(order)
    report.add(name, "seconds_each", ours_s, reference_s, "row of a numpy.memmap")
    flat.unlink()


def memory(report: Report, folder: Path, models: int) -> None:
    for case in ("write", "shuffled", "bounded", "in order"):
        command = [sys.executable, "-m", "experiments.bench.zoo_store", "--memory-of", case]
        command += ["--folder", str(folder), "--models", str(models)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        private, mapped = map(int, done.stdout.split()[-2:])
        name = {
            "write": "write, 1,000 networks at a time",
            "shuffled": "read shuffled",
            "bounded": "read shuffled, 64 MiB resident",
            "in order": "read in order",
        }[case]
        report.add(name, "private_bytes", private, SHARD, "one shard")
        report.add(name, "mapped_bytes", mapped, SHARD, "one shard")


def memory_of(case: str, folder: Path, models: int) -> None:
    """Print by how many bytes private and mapped memory grew at most."""
    run = {
        "write": lambda: write_parts(folder / "streamed", models),
        "shuffled": lambda: read_shuffled(folder / "zoo"),
        "bounded": lambda: read_shuffled(folder / "zoo", SHARD),
        "in order": lambda: read_in_order(folder / "zoo"),
    }[case]
    write_parts(folder / "first", 2000)  # what is loaded and compiled at the first use
    read_shuffled(folder / "first")
    before = resident()
    peak, done = list(before), threading.Event()

    def watch() -> None:
        while not done.wait(0.001):
            peak[:] = map(max, peak, resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    run()
    done.set()
    watcher.join()
    for name in ("first", "streamed"):
        shutil.rmtree(folder / name, ignore_errors=True)
    print(*(after - first for after, first in zip(peak, before, strict=True)))


def write_parts(folder: Path, models: int) -> None:
    with store.Writer(folder) as writer:
        for seed in range(-(-models // 1000)):
            writer.write(inrs(1000, seed))


def resident() -> tuple[int, int]:
    """Private and mapped bytes of this process."""
    lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return tuple(1024 * int(lines[name].split()[0]) for name in ("RssAnon", "RssFile"))


def extend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", type=int, default=100_000)
    parser.add_argument(
        "--folder", type=Path, help="on the disk to measure (default: a temporary one)"
    )
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)


def main() -> None:
    options = arguments(__doc__, extend)
    if options.memory_of:
        return memory_of(options.memory_of, options.folder, options.models)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        report, folder = Report(options), Path(name)
        times(report, folder, options.models)
        single_reads(report, folder, options.models)
        memory(report, folder, options.models)


if __name__ == "__main__":
    main()

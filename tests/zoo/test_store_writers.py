"""Writers that are killed, that meet each other, and that run out of disk."""

import errno
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tests.zoo.store_zoos import BYTES, numbers, small
from wsljax.zoo import store
from wsljax.zoo.store import files

ROOT = Path(__file__).parents[2]
TEN = 10 * BYTES  # a shard of ten networks

# Processes that kill themselves, for good, at the n-th call of one function. Each is forked from one
# that has done the imports, writes 47 networks, 3 at a time, and notes how many the writer has taken.
KILLED = """
import os, signal, sys
from pathlib import Path
from wsljax.zoo.store import Writer, tensor_file, files
from tests.zoo.store_zoos import small

def kill_at(module, name, number, after):
    original, calls = getattr(module, name), iter(range(1, 10**9))
    def call(*args, **options):
        last = next(calls) == number
        if last and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **options)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(module, name, call)

def write(folder):
    taken = os.open(folder / "taken", os.O_WRONLY | os.O_CREAT)
    with Writer(folder, shard_bytes=int(sys.argv[2]), append=True) as writer:
        for start in range(0, 47, 3):
            count = min(3, 47 - start)
            writer.write(small(count, start))
            os.pwrite(taken, str(start + count).encode(), 0)

modules = {"os": os, "tensor_file": tensor_file, "files": files}
for moment in sys.argv[3:]:
    folder = Path(sys.argv[1]) / moment
    folder.mkdir()
    where, name, number, after = moment.split("-")
    child = os.fork()
    if not child:
        kill_at(modules[where], name, int(number), after == "after")
        write(folder)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL, moment
"""
# A shard is six writes (header, four tensors, header), a flush, a rename and a flush of the folder; then
# come a flush, a rename and a flush for the index. There are five shards.
MOMENTS = [f"os-replace-{n}-{when}" for n in (1, 2, 3, 4, 5, 10) for when in ("before", "after")]
MOMENTS += [f"os-fsync-{n}-{when}" for n in (1, 2, 3, 4, 5, 6) for when in ("before", "after")]
MOMENTS += [f"tensor_file-_write-{n}-after" for n in (1, 2, 5, 6, 7, 8, 13, 30)]
MOMENTS += ["files-sync_folder-3-before"]


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Folders by the moment when their writer was killed."""
    folder = tmp_path_factory.mktemp("killed")
    command = [sys.executable, "-c", KILLED, str(folder), str(TEN), *MOMENTS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    listed, temporary, orphans = set(), 0, 0
    for path in folder.iterdir():
        try:
            index = store.open(path)._index
        except FileNotFoundError:
            index = None
        listed.add(0 if index is None else len(index.shards))
        temporary += any(path.glob(".*.tmp"))
        orphans += any(x.name not in (index.files if index else ()) for x in path.glob("shard-*"))
    # the moments fall before, within, between and after several shards, or the tests are about little
    assert listed >= {0, 1, 2, 4} and temporary > 5 and orphans > 5, (listed, temporary, orphans)
    return folder


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_writer_loses_at_most_the_open_shard(killed, moment):
    folder = killed / moment
    taken = (folder / "taken").read_text() if (folder / "taken").exists() else ""
    taken = int(taken or 0)
    try:
        stored = store.open(folder, damaged="raise")
    except FileNotFoundError:
        left = 0  # killed before the first shard was listed
    else:
        left = len(stored)
        assert numbers(stored.population()) == list(range(left)) and not stored.complete
        stored.verify_checksums()
    assert taken - 10 < left <= taken + 3
    with store.Writer(folder, append=True, shard_bytes=TEN) as writer:
        writer.write(small(60 - left, left))
    stored = store.open(folder)
    assert numbers(stored.population()) == list(range(60)) and stored.complete
    names = {path.name for path in folder.iterdir()} - {"taken"}
    assert names == {"index.json", files.LOCK, *stored._index.files}


STREAM = """
import sys
from wsljax.zoo.store import Writer
from tests.zoo.store_zoos import small
with Writer(sys.argv[1], shard_bytes=int(sys.argv[2]), append=True) as writer:
    start = int(sys.argv[3])
    while True:
        writer.write(small(50, start))
        start += 50
        print(start, flush=True)
"""


def stream(folder, start=0):
    """A process that writes until it is killed and says how many networks the writer has taken."""
    command = [sys.executable, "-c", STREAM, str(folder), str(7 * TEN), str(start)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_killed_from_outside_while_others_read(tmp_path):
    """At any time a reader sees a prefix that grows; a second writer is refused; nothing is lost."""
    folder, start, generator = tmp_path / "zoo", 0, random.Random(0)
    for _ in range(3):
        process = stream(folder, start)
        taken = int(process.stdout.readline())
        with pytest.raises(BlockingIOError, match=f"another writer.*process {process.pid}"):
            store.Writer(folder, append=True)
        with pytest.raises(BlockingIOError, match="another writer"):
            store.save(small(1), folder, overwrite=True)
        seen, until = start, time.time() + 0.5 + generator.random()
        while time.time() < until:
            taken = int(process.stdout.readline())
            stored = store.open(folder)
            assert seen <= len(stored) and taken - 70 < len(stored)
            seen = len(stored)
            index = np.random.default_rng(seen).integers(seen, size=min(seen, 20))
            assert numbers(stored.take(index)) == index.tolist()
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().split("\n")
        process.stdout.close()
        assert process.wait() == -signal.SIGKILL
        complete = [line for line in rest[:-1] if line]
        taken = int(complete[-1]) if complete else taken
        stored = store.open(folder)
        start = len(stored)
        assert taken - 70 < start and start > seen - 1
        assert numbers(stored.population()) == list(range(start))
    with store.Writer(folder, append=True) as writer:
        writer.write(small(5, start))
    stored = store.open(folder)
    assert numbers(stored.take(slice(start - 5, None))) == list(range(start - 5, start + 5))
    assert {p.name for p in folder.iterdir()} == {"index.json", files.LOCK, *stored._index.files}


def test_two_writers_in_one_process(tmp_path):
    folder = tmp_path / "zoo"
    with store.Writer(folder) as writer:
        with pytest.raises(BlockingIOError, match=f"process {os.getpid()}"):
            store.Writer(folder, append=True)
        writer.write(small(2))
    with store.Writer(folder, append=True) as writer:
        writer.write(small(1, 2))
    assert numbers(store.open(folder).population()) == [0, 1, 2]
    with pytest.raises(FileExistsError):
        store.Writer(folder)
    del writer
    store.Writer(folder, append=True).close()  # the refused one does not hold the lock


def test_threads_may_share_a_writer(tmp_path):
    with store.Writer(tmp_path / "zoo", shard_bytes=TEN) as writer:
        threads = [
            threading.Thread(
                target=lambda k=k: [writer.write(small(3, 30 * k + n)) for n in range(0, 30, 3)]
            )
            for k in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = numbers(store.open(tmp_path / "zoo").population())
    assert sorted(found) == list(range(120))
    assert all(found[n] + 1 == found[n + 1] == found[n + 2] - 1 for n in range(0, 120, 3))


LIMITED = """
import resource, signal, sys
from wsljax.zoo.store import Writer
from tests.zoo.store_zoos import small
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with Writer(sys.argv[1], shard_bytes=int(sys.argv[2])) as writer:
    writer.write(small(20))
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
    writer.write(small(20, 20))
"""


def test_a_write_that_the_system_refuses(tmp_path):
    """The system's own refusal, by a limit on the size of files."""
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "zoo"), str(TEN)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert re.search(r"OSError: .*file too large: shard-.* was not written", done.stderr), (
        done.stderr
    )
    assert numbers(store.open(tmp_path / "zoo").population()) == list(range(20))
    assert not list((tmp_path / "zoo").glob(".*.tmp"))


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_full_disk(tmp_path, monkeypatch, call):
    folder = tmp_path / "zoo"

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="no space left: shard-.*make room and append") as caught:
        with store.Writer(folder, shard_bytes=TEN) as writer:
            writer.write(small(23))
            with monkeypatch.context() as patch:
                if call == "write":
                    patch.setattr(store.tensor_file, "_write", full)
                else:
                    patch.setattr(os, call, full)
                writer.write(small(10, 23))
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(RuntimeError, match="closed, or failed"):
        writer.write(small(1))
    assert not list(folder.glob(".*.tmp"))
    stored = store.open(folder)
    assert numbers(stored.population()) == list(range(20)) and not stored.complete
    with store.Writer(folder, append=True) as writer:
        writer.write(small(5, 20))
    assert numbers(store.open(folder).population()) == list(range(25))


def test_memory_is_that_of_one_shard(tmp_path):
    """Private memory, in a process of its own: writing and reading 20 shards of 4 MiB."""
    code = """
import sys, threading, time
import numpy as np
from wsljax.zoo import Population, store
def private():
    line = next(x for x in open("/proc/self/status") if x.startswith("RssAnon"))
    return 1024 * int(line.split()[1])
def part(seed):
    return Population({"w": np.full((16, 2**14), seed, np.float32)}, {"n": np.full(16, seed)})
def write(folder, parts):
    with store.Writer(folder, shard_bytes=2**22) as writer:
        for seed in range(parts):
            writer.write(part(seed))
def read(folder):
    stored = store.open(folder)
    order = np.random.default_rng(0).permutation(len(stored))
    for start in range(0, len(order), 8):
        stored.take(order[start:start + 8])
    for chunk in stored.chunks(8):
        pass
    stored.verify_checksums()
write(sys.argv[1] + "/first", 4); read(sys.argv[1] + "/first")
peak, done = [0], threading.Event()
def watch():
    while not done.wait(0.0005):
        peak[0] = max(peak[0], private())
for run in (lambda: write(sys.argv[1] + "/zoo", 80), lambda: read(sys.argv[1] + "/zoo")):
    before = peak[0] = private()
    done.clear()
    watcher = threading.Thread(target=watch); watcher.start()
    run()
    done.set(); watcher.join()
    print(peak[0] - before)
"""
    if not Path("/proc/self/status").exists():
        pytest.skip("needs /proc")
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    written, read = map(int, done.stdout.split())
    assert sum(p.stat().st_size for p in (tmp_path / "zoo").iterdir()) > 20 * 2**22
    assert written < 2 * 2**22 and read < 2 * 2**22

"""Files that appear whole or not at all, one writer at a time, and names that stay in their folder."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Any

INDEX = "index.json"
LOCK = ".writer.lock"
NAME = re.compile(r"(shard-[0-9a-f]{8}-[0-9]{6,12}|evaluation-[0-9a-f]{8})\.safetensors")
_TEMPORARY = re.compile(
    r"\.(index\.json|(shard|evaluation)-[0-9a-f-]+\.safetensors)\.[0-9a-f]+\.tmp"
)
_FULL = {errno.ENOSPC: "no space left", errno.EDQUOT: "over quota", errno.EFBIG: "file too large"}


def shard_name(generation: str, number: int) -> str:
    return f"shard-{generation}-{number:06}.safetensors"


def evaluation_name(generation: str) -> str:
    return f"evaluation-{generation}.safetensors"


def new_generation() -> str:
    """Eight random digits that the files of one zoo share, so that another never meets them."""
    return secrets.token_hex(4)


def write_atomically(path: Path, write: Callable[[FileIO], Any]) -> Any:
    """Write a file beside `path`, flush it to the disk, and put it in its place.

    Whenever the process or the machine stops, `path` holds all that was there before or all that is
    there after. What `write` returns is returned.

    Raises:
        OSError: with what to do, if the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb", buffering=0) as file:
            result = write(file)
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as e:
        _remove(temporary)
        if e.errno in _FULL:
            raise OSError(
                e.errno,
                f"{_FULL[e.errno]}: {path.name} was not written to {path.parent}. The files that "
                "were finished before are whole; make room and append what is missing.",
            ) from e
        raise
    except BaseException:
        _remove(temporary)
        raise
    return result


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    if not hasattr(os, "O_DIRECTORY"):
        return  # Windows has no such call
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path, keep: set[str]) -> None:
    """Remove what a killed writer left: files named as ours that are not in `keep`."""
    for path in folder.iterdir():
        ours = NAME.fullmatch(path.name) or _TEMPORARY.fullmatch(path.name)
        if ours and path.name not in keep:
            _remove(path)


def shards_in(folder: Path) -> list[str]:
    """Names of the shards in a folder, whether an index lists them or not."""
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("shard-"))


def inside(folder: Path, name: Any) -> Path:
    """The path of a file that an index names.

    Raises:
        ValueError: it is not named as the files of a zoo are, or is a link to another folder.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(f"the index names a file {name!r}, which no writer of this library does.")
    path = folder / name
    if path.is_symlink() and path.resolve().parent != folder.resolve():
        raise ValueError(f"{path} is a link out of its folder; copy the file there instead.")
    return path


def check_folder(folder: str | os.PathLike, *, create: bool) -> Path:
    """The folder of a zoo; made if wanted.

    Raises:
        FileNotFoundError, NotADirectoryError: it is not there, or is no folder.
    """
    path = Path(folder).expanduser().absolute()
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"{path} is a file; a zoo is a folder. Give another `folder`.")
    if create:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise NotADirectoryError(
                f"{path} cannot be made: part of the path is a file. Give another `folder`."
            ) from None
    elif not path.exists():
        raise FileNotFoundError(f"there is no folder {path}; `zoo.save` makes one.")
    return path


class WriterLock:
    """Held by the only writer of a folder; the system lets go of it when the process ends."""

    def __init__(self, folder: Path):
        """Take the lock.

        Raises:
            BlockingIOError: another writer has it, in this process or in another one.
        """
        path = folder / LOCK
        self._file: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            _take(self._file)
        except OSError as e:
            holder = path.read_text().strip() or "unknown"
            self.release()
            if e.errno not in (errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK):
                raise
            raise BlockingIOError(
                f"another writer is writing to {folder} (process {holder}); wait until it is closed."
            ) from None
        os.ftruncate(self._file, 0)
        os.write(self._file, str(os.getpid()).encode())

    def release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __del__(self) -> None:
        self.release()


def _take(file: int) -> None:
    with contextlib.suppress(ImportError):
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    import msvcrt

    msvcrt.locking(file, msvcrt.LK_NBLCK, 1)  # pyright: ignore[reportAttributeAccessIssue]


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()

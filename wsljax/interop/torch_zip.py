"""The zip archives that torch writes, read with suspicion.

Every member is checked before a byte of it is used: its name, that it is neither encrypted nor
packed in an odd way, that its header agrees with the table of contents, that no two members share
bytes, that what it claims to unpack to is bounded, and its checksum. Nothing is written to disk.
Format: PKWARE APPNOTE 6.3, sections 4.3 and 4.4.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from typing import NamedTuple

from wsljax.interop.torch_pickle import TorchFileError

MAX_MEMBERS = 200_000
_LOCAL = struct.Struct("<4s5H3I2H")


class Member(NamedTuple):
    """Where the bytes of one member are."""

    start: int
    packed: int
    size: int
    crc: int
    deflated: bool


class Archive:
    """The members of a zip archive, by name.

    Args:
        data: the whole archive.
        max_bytes: what all members together may unpack to.
        max_ratio: what any one may unpack to, as a multiple of its packed size.
        check_crc: whether checksums are compared when a member is read.

    Raises:
        TorchFileError: anything that a file of weights has no reason to contain.

    Example:
        >>> stream = io.BytesIO()
        >>> with zipfile.ZipFile(stream, "w") as file:
        ...     file.writestr("a/x", b"12")
        >>> bytes(Archive(stream.getvalue()).read("a/x"))
        b'12'
    """

    def __init__(
        self,
        data: bytes | memoryview,
        *,
        max_bytes: int = 2**34,
        max_ratio: float = 100.0,
        check_crc: bool = True,
    ):
        self.data = memoryview(data)
        self.check_crc = check_crc
        try:
            with zipfile.ZipFile(_Stream(self.data)) as file:
                infos, end = file.infolist(), file.start_dir
        except (
            zipfile.BadZipFile,
            struct.error,
            ValueError,
            NotImplementedError,
            OSError,
        ) as error:
            raise TorchFileError(f"it is no whole zip archive: {error}") from error
        if len(infos) > MAX_MEMBERS:
            raise TorchFileError(f"it has {len(infos)} members; {MAX_MEMBERS} at most.")
        self.members: dict[str, Member] = {}
        last, reached, total = "its beginning", 0, 0
        for info in sorted(infos, key=lambda info: info.header_offset):
            name = _checked_name(info)
            if info.header_offset < reached:
                raise TorchFileError(f"its members {last!r} and {name!r} share bytes.")
            if name in self.members:
                raise TorchFileError(f"it has two members {name!r}.")
            member = self._locate(info, name, end)
            total += member.size
            if total > max_bytes:
                raise TorchFileError(
                    f"it unpacks to more than {max_bytes} bytes; a larger `max_bytes` allows it."
                )
            if member.size > max_ratio * max(member.packed, 1):
                raise TorchFileError(
                    f"its member {name!r} unpacks to {member.size} bytes from {member.packed}; a "
                    "larger `max_ratio` allows it."
                )
            self.members[name] = member
            last, reached = name, member.start + member.packed

    def _locate(self, info: zipfile.ZipInfo, name: str, end: int) -> Member:
        head = self.data[info.header_offset : info.header_offset + _LOCAL.size]
        if info.header_offset < 0 or len(head) < _LOCAL.size:
            raise TorchFileError(f"it is cut short at its member {name!r}.")
        magic, _, flags, method, *_, name_size, extra_size = _LOCAL.unpack(head)
        if magic != b"PK\x03\x04" or method != info.compress_type:
            raise TorchFileError(f"the header of its member {name!r} is not what its table says.")
        if (flags | info.flag_bits) & 0x2041:
            raise TorchFileError(f"its member {name!r} is encrypted.")
        if method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise TorchFileError(f"its member {name!r} is packed by method {method}, not 0 or 8.")
        start = info.header_offset + _LOCAL.size + name_size + extra_size
        stored = self.data[info.header_offset + _LOCAL.size :][:name_size].tobytes()
        if stored.decode("utf-8" if flags & 0x800 else "cp437", "replace") != info.orig_filename:
            raise TorchFileError(f"its member {name!r} has another name in its header.")
        if start + info.compress_size > end:
            raise TorchFileError(f"it is cut short in its member {name!r}.")
        deflated = method == zipfile.ZIP_DEFLATED
        if not deflated and info.compress_size != info.file_size:
            raise TorchFileError(f"its member {name!r} has two sizes though it is not packed.")
        return Member(start, info.compress_size, info.file_size, info.CRC, deflated)

    def read(self, name: str) -> memoryview:
        """The bytes of a member; of one that is not packed, a view of the archive's own.

        Raises:
            TorchFileError: there is no such member, or its checksum or size is another.
        """
        if name not in self.members:
            raise TorchFileError(f"it has no member {name!r}.")
        start, packed, size, crc, deflated = self.members[name]
        out = self.data[start : start + packed]
        if deflated:
            unpacker = zlib.decompressobj(-15)
            try:
                out = memoryview(unpacker.decompress(out, size + 1))
            except zlib.error as error:
                raise TorchFileError(f"its member {name!r} cannot be unpacked: {error}") from error
            if len(out) != size or not unpacker.eof:
                raise TorchFileError(f"its member {name!r} does not unpack to {size} bytes.")
        if self.check_crc and zlib.crc32(out) != crc:
            raise TorchFileError(
                f"its member {name!r} is damaged: its checksum is {zlib.crc32(out):08x}, not "
                f"{crc:08x}. `check_crc=False` reads it all the same."
            )
        return out


class _Stream(io.RawIOBase):
    """A buffer as a file, so that a mapped one is not copied."""

    def __init__(self, data: memoryview):
        self.data, self.place = data, 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        place = offset + (0, self.place, len(self.data))[whence]
        if place < 0:
            raise OSError("before its beginning")
        self.place = place
        return place

    def tell(self) -> int:
        return self.place

    def readinto(self, buffer) -> int:
        part = self.data[self.place : self.place + len(buffer)]
        buffer[: len(part)] = part
        self.place += len(part)
        return len(part)


def _checked_name(info: zipfile.ZipInfo) -> str:
    name = info.orig_filename
    parts = name.split("/")
    if not name or name.startswith("/") or "\\" in name or "\0" in name or ":" in parts[0]:
        raise TorchFileError(f"it has a member with the name {name[:200]!r}.")
    if ".." in parts or "." in parts:
        raise TorchFileError(f"its member {name[:200]!r} points out of the archive.")
    return name

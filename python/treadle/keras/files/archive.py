"""This module reads the members of a `.keras` file, a ZIP archive that is not trusted.

The format is read here and not by `zipfile`, so that every length is compared with the file before
memory of that size is taken. All of a file must be accounted for: the directory ends where its end
record begins, and the members that are read do not overlap. Nothing is ever unpacked to the disk.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

MOST_MEMBERS = 65_535
LARGEST_EXPANSION = 100  # of a member that is larger than the next number
SMALLEST_BOMB = 1 << 26  # bytes
_END = struct.Struct("<4s4H2LH")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_METHODS = {0: "stored", 8: "deflated"}
_ENCRYPTED = 0x2041  # bits of flags: encrypted, strongly, and with a hidden directory


@dataclass(frozen=True, slots=True)
class Member:
    """This is an entry of the archive's directory."""

    name: str
    flags: int
    method: int
    checksum: int
    stored: int
    size: int
    offset: int


def is_archive(data: bytes) -> bool:
    """Return whether a file with these bytes is a ZIP archive."""
    return data.startswith(b"PK\x03\x04")


class Archive:
    """This is a ZIP archive in memory, whose directory was checked.

    Raises ValueError, here and in `read`, for what is malformed or refused.
    """

    def __init__(self, data: bytes, where: str) -> None:
        self._data, self._where = data, where
        start, size, count = self._end()
        self.members = self._directory(start, size, count)
        self._taken: list[tuple[int, int, str]] = [(start, len(data), "the directory")]

    def read(self, name: str, most: int) -> bytes:
        """Return the bytes of a member, which may have ``most``. Raises KeyError for no such."""
        member = self.members[name]
        where = f"{self._where}: {name}"
        if member.flags & _ENCRYPTED:
            raise ValueError(f"{where} is encrypted, expected a plain member")
        if member.method not in _METHODS:
            raise ValueError(
                f"{where} is compressed by method {member.method}, expected 0 (stored) or "
                "8 (deflated)"
            )
        if member.size > most:
            raise ValueError(f"{where} has {member.size} bytes, expected at most {most}")
        if member.size > max(SMALLEST_BOMB, LARGEST_EXPANSION * member.stored):
            raise ValueError(
                f"{where} unpacks {member.stored} bytes to {member.size}, expected at most "
                f"{LARGEST_EXPANSION} times as many"
            )
        content = self._unpacked(member, self._stored(member, where), where)
        if zlib.crc32(content) != member.checksum:
            raise ValueError(f"{where} does not have its checksum: the file is damaged")
        return content

    def _end(self) -> tuple[int, int, int]:
        """Return where the directory begins, its size and its number of entries."""
        data, where = self._data, self._where
        position = data.rfind(b"PK\x05\x06", max(0, len(data) - _END.size - 0xFFFF))
        if position < 0 or len(data) - position < _END.size:
            raise ValueError(f"{where} has no end of a ZIP archive: it is truncated, or no archive")
        _, disk, first, here, count, size, start, comment = _END.unpack_from(data, position)
        if position + _END.size + comment != len(data):
            raise ValueError(f"{where}: bytes follow the end of the ZIP archive, expected none")
        if 0xFFFF in (disk, here, count) or 0xFFFFFFFF in (size, start):
            raise ValueError(f"{where} is a ZIP64 archive, expected a file below 4 GiB")
        if disk or first or here != count:
            raise ValueError(f"{where} is one of several parts of a ZIP archive, expected a whole")
        if start + size != position:
            raise ValueError(
                f"{where}: the directory of the ZIP archive has {size} bytes at {start}, expected "
                f"its end at {position}"
            )
        return start, size, count

    def _directory(self, start: int, size: int, count: int) -> dict[str, Member]:
        data, where, end = self._data, self._where, start + size
        if count * _ENTRY.size > size:
            raise ValueError(f"{where}: the ZIP archive has {count} members in {size} bytes")
        members: dict[str, Member] = {}
        position = start
        for _ in range(count):
            if position + _ENTRY.size > end:
                raise ValueError(f"{where}: the directory of the ZIP archive is truncated")
            entry = _ENTRY.unpack_from(data, position)
            if entry[0] != b"PK\x01\x02":
                raise ValueError(f"{where}: an entry of the ZIP archive's directory is malformed")
            flags, method, checksum, stored, length = entry[3], entry[4], *entry[7:10]
            name_size, extra, comment, disk, offset = *entry[10:14], entry[16]
            position += _ENTRY.size
            if position + name_size + extra + comment > end:
                raise ValueError(f"{where}: the directory of the ZIP archive is truncated")
            name = self._name(data[position : position + name_size])
            position += name_size + extra + comment
            if name in members:
                raise ValueError(f"{where} has the member {name!r} twice")
            if 0xFFFFFFFF in (stored, length, offset) or disk:
                raise ValueError(f"{where}: {name} is beyond 4 GiB or in another part (ZIP64)")
            members[name] = Member(name, flags, method, checksum, stored, length, offset)
        if position != end:
            raise ValueError(f"{where}: the directory of the ZIP archive has bytes to spare")
        return members

    def _name(self, raw: bytes) -> str:
        try:
            name = raw.decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError(f"{self._where}: a member's name {raw[:100]!r} is no UTF-8") from None
        parts = name.rstrip("/").split("/")
        if "\\" in name or "\0" in name or ":" in parts[0] or {"", ".", ".."} & set(parts):
            raise ValueError(
                f"{self._where}: a member is named {name[:100]!r}, expected a relative path "
                "without '..'"
            )
        return name

    def _stored(self, member: Member, where: str) -> bytes:
        """Return the bytes of a member as they are stored."""
        data, offset = self._data, member.offset
        if offset + _LOCAL.size > len(data):
            raise ValueError(f"{where} begins at {offset}, beyond the file's {len(data)} bytes")
        header = _LOCAL.unpack_from(data, offset)
        start = offset + _LOCAL.size + header[9] + header[10]
        name = data[offset + _LOCAL.size : offset + _LOCAL.size + header[9]]
        if header[0] != b"PK\x03\x04" or name != member.name.encode() or header[3] != member.method:
            raise ValueError(f"{where}: its header differs from the entry in the directory")
        end = start + member.stored
        for first, last, other in self._taken:
            if offset < last and first < end:
                raise ValueError(f"{where} has bytes {offset} to {end}, which overlap {other}")
        self._taken.append((offset, end, member.name))
        return data[start:end]

    def _unpacked(self, member: Member, stored: bytes, where: str) -> bytes:
        content = stored
        if member.method:
            inflating = zlib.decompressobj(-zlib.MAX_WBITS)
            try:
                content = inflating.decompress(stored, member.size + 1)
            except zlib.error as error:
                raise ValueError(f"{where} cannot be unpacked: {error}") from None
            if not inflating.eof or inflating.unused_data:
                raise ValueError(
                    f"{where} does not end behind the {member.size} bytes that it says"
                )
        if len(content) != member.size:
            raise ValueError(
                f"{where} has {len(content)} bytes, expected the {member.size} that it says"
            )
        return content

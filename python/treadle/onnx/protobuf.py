"""This module reads the wire format of protobuf, of messages that may be hostile.

A message is a run of fields, each a key (number * 8 + wire type) and a value:

    wire type 0    a varint: seven bits a byte, the lowest first, the top bit says that more follow
    wire type 1    eight bytes
    wire type 2    a varint n, then n bytes: text, bytes, another message, packed numbers
    wire type 5    four bytes

(https://protobuf.dev/programming-guides/encoding.) Nothing is built from a message but what a
caller asks for: `Wire.fields` goes through the fields of a part of the buffer and gives each value
as a number or as the place where its bytes lie. Every length is compared with the end of the
message that it belongs to, and fields are counted, so that a small file can neither make a reader
look outside nor keep it busy for ever.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from treadle._inputs.types import AnyArray

VARINT, EIGHT_BYTES, BYTES, FOUR_BYTES = 0, 1, 2, 5
_WIRE_NAMES = {VARINT: "varint", EIGHT_BYTES: "8 bytes", BYTES: "bytes", FOUR_BYTES: "4 bytes"}
# A graph of 100,000 nodes has about 1,500,000 fields.
MOST_FIELDS = 2**21
# The messages among them that become objects of Python: such a graph has about 250,000.
MOST_MESSAGES = 2**18
# So many bytes of packed varints are decoded at a time.
_CHUNK = 2**16


class Part(NamedTuple):
    """A Part says where the bytes of a message, a text or packed numbers lie in the buffer."""

    begin: int
    end: int


# A field: its number, the wire type of its value, the value and its end. The value is the number
# itself for a varint, and else where its bytes begin; the end is where they end.
Field: TypeAlias = tuple[int, int, int, int]


class Wire:
    """A Wire is a buffer of protobuf messages. Methods raise ValueError for what is malformed."""

    def __init__(self, data: bytes, where: str) -> None:
        self.data = data
        self.where = where
        """Function and file, the beginning of every message to the user."""
        self._left = MOST_FIELDS
        self._messages_left = MOST_MESSAGES

    def fields(self, part: Part, what: str) -> Iterator[Field]:
        """Go through the fields of a message, the text ``what`` of which names it in errors."""
        data, (position, end) = self.data, part
        first = position
        while position < end:
            self._left -= 1
            if self._left < 0:
                raise ValueError(
                    f"{self.where} has more than {MOST_FIELDS} fields, expected at most so many"
                )
            start = position
            key = data[position]
            position += 1
            if key >= 0x80:
                key, position = self._varint(start, end, what)
            wire = key & 7
            if wire in (BYTES, VARINT):
                if position >= end:
                    raise self._short(what, start)
                value = data[position]
                position += 1
                if value >= 0x80:
                    value, position = self._varint(position - 1, end, what)
                if wire == BYTES:
                    stop = position + value
                    if stop > end:
                        raise ValueError(
                            f"{self.where}: {what} claims {value} bytes for its field {key >> 3} "
                            f"at byte {start}, expected at most {end - position}"
                        )
                    value, position = position, stop
            elif wire in (FOUR_BYTES, EIGHT_BYTES):
                value = position
                position += 4 if wire == FOUR_BYTES else 8
                if position > end:
                    raise self._short(what, start)
            else:
                raise ValueError(
                    f"{self.where}: {what} has the wire type {wire} at byte {start}, "
                    f"{start - first} bytes into it, expected 0, 1, 2 or 5"
                )
            number = key >> 3
            if not 0 < number < 2**29:
                raise ValueError(
                    f"{self.where}: {what} has a field {number} at byte {start}, expected a number "
                    "from 1 to 536870911"
                )
            yield number, wire, value, position

    def message(self, field: Field, what: str) -> Part:
        """Return where a message lies that becomes an object: these are counted."""
        self._messages_left -= 1
        if self._messages_left < 0:
            raise ValueError(
                f"{self.where} has more than {MOST_MESSAGES} nodes, attributes, tensors and "
                "values, expected at most so many"
            )
        return self.part(field, what)

    def part(self, field: Field, what: str) -> Part:
        """Return where the bytes of a field lie: a message, a text, bytes, packed numbers."""
        _, wire, begin, end = field
        if wire != BYTES:
            raise self._wrong(field, what, BYTES)
        return Part(begin, end)

    def text(self, field: Field, what: str) -> str:
        """Return a text, which must be UTF-8."""
        _, wire, begin, end = field
        if wire != BYTES:
            raise self._wrong(field, what, BYTES)
        try:
            return self.data[begin:end].decode()
        except UnicodeDecodeError:
            raise ValueError(
                f"{self.where}: {what} is not UTF-8 at byte {begin}, expected a text"
            ) from None

    def integer(self, field: Field, what: str) -> int:
        """Return an int64, or an enum."""
        _, wire, value, _ = field
        if wire != VARINT:
            raise self._wrong(field, what, VARINT)
        return value - 2**64 if value >= 2**63 else value

    def float32(self, field: Field, what: str) -> float:
        """Return a number of four bytes."""
        _, wire, begin, _ = field
        if wire != FOUR_BYTES:
            raise self._wrong(field, what, FOUR_BYTES)
        return float(struct.unpack_from("<f", self.data, begin)[0])

    def fixed(self, fields: list[Field], dtype: str, what: str) -> AnyArray:
        """Return the numbers of a repeated field of four or eight bytes each, packed or not."""
        size = np.dtype(dtype).itemsize
        single = FOUR_BYTES if size == 4 else EIGHT_BYTES
        parts = []
        for field in fields:
            _, wire, begin, end = field
            if wire != single and wire != BYTES:
                raise self._wrong(field, what, BYTES)
            count, rest = divmod(end - begin, size)
            if rest:
                raise ValueError(
                    f"{self.where}: {what} has {end - begin} bytes at byte {begin}, expected a "
                    f"multiple of {size}"
                )
            parts.append(np.frombuffer(self.data, dtype, count, begin))
        return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, dtype), *parts])

    def integers(self, fields: list[Field], what: str) -> AnyArray:
        """Return the integers of a repeated field of varints, packed or not, as uint64."""
        counts = [
            1 if field[1] == VARINT else self._count(self.part(field, what)) for field in fields
        ]
        numbers = np.empty(sum(counts), np.uint64)
        start = 0
        for field, count in zip(fields, counts, strict=True):
            target = numbers[start : start + count]
            if field[1] == VARINT:
                target[0] = field[2]
            else:
                self._unpack(self.part(field, what), target, what)
            start += count
        return numbers

    def signed(self, fields: list[Field], what: str) -> list[int]:
        """Return the int64 of a repeated field, packed or not. Most lists are short."""
        if all(field[1] == VARINT for field in fields):
            return [n - 2**64 if n >= 2**63 else n for _, _, n, _ in fields]
        numbers: list[int] = self.integers(fields, what).view(np.int64).tolist()
        return numbers

    def _count(self, part: Part) -> int:
        raw = np.frombuffer(self.data, np.uint8, part.end - part.begin, part.begin)
        starts = range(0, raw.size, _CHUNK)
        return sum(int(np.count_nonzero(raw[i : i + _CHUNK] < 0x80)) for i in starts)

    def _unpack(self, part: Part, numbers: AnyArray, what: str) -> None:
        """Decode packed varints, a chunk at a time, into as many numbers as they are."""
        position, done = part.begin, 0
        while position < part.end:
            raw = np.frombuffer(
                self.data, np.uint8, min(_CHUNK, part.end - position), position
            ).astype(np.uint64)
            ends = np.flatnonzero(raw < 0x80) + 1
            lengths = np.diff(ends, prepend=0)
            if not ends.size or lengths.max() > 10:
                raise ValueError(
                    f"{self.where}: {what} has a number without an end after byte {position}, "
                    "expected at most 10 bytes each"
                )
            starts = ends - lengths
            chunk = numbers[done : done + ends.size]
            chunk[:] = 0
            for i in range(int(lengths.max())):
                used = np.flatnonzero(lengths > i)
                chunk[used] |= (raw[starts[used] + i] & np.uint64(0x7F)) << np.uint64(7 * i)
            done += ends.size
            position += int(ends[-1])

    def _varint(self, start: int, end: int, what: str) -> tuple[int, int]:
        """Return the varint that begins at ``start``, and where it ends."""
        value = shift = 0
        for position in range(start, min(start + 10, end)):
            byte = self.data[position]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value >= 2**64:
                    break
                return value, position + 1
            shift += 7
        raise ValueError(
            f"{self.where}: {what} has a number without an end at byte {start}, expected a varint "
            "of at most 64 bits"
        )

    def _short(self, what: str, start: int) -> ValueError:
        return ValueError(f"{self.where}: {what} ends within its field at byte {start}")

    def _wrong(self, field: Field, what: str, expected: int) -> ValueError:
        """Return the error for a field whose wire type is another than its number says."""
        return ValueError(
            f"{self.where}: {what} has the wire type {_WIRE_NAMES[field[1]]}, expected "
            f"{_WIRE_NAMES[expected]}"
        )

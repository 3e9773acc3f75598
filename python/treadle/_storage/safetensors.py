"""Safetensors, for files and for exported states. What is read may be hostile.

    8 bytes      n, the length of the header, little endian
    n bytes      JSON: {"name": {"dtype", "shape", "data_offsets": [begin, end]}, ...,
                 "__metadata__": {"name": "text", ...}}
    the rest     the tensors, without gaps or overlap

(https://huggingface.co/docs/safetensors, section Format.) The header is checked as a whole, against
the size of the file, before a tensor is read; the caller then compares shapes with what it expects.
Nothing is allocated on the header's word alone: a tensor is as large as its bytes in the file. The
file is read, not mapped, so that one that shrinks meanwhile is an error and not a signal.
"""

from __future__ import annotations

import json
import struct
from io import BytesIO
from math import prod
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeAlias

import numpy as np

from treadle._inputs import foreign
from treadle._inputs.arrays import widen
from treadle._storage import kinds
from treadle._storage.json import parse_json, short

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from io import BufferedIOBase

    from treadle._inputs.types import AnyArray, Float

    # Names of tensors with NumPy's dtypes and shapes, as `_storage.formats.layout` gives them.
    Layout: TypeAlias = Mapping[str, tuple[str, tuple[int, ...]]]

# treadle's headers are shorter by far, and a header of this length is still parsed quickly.
_MAX_HEADER = 2**24
_MAX_RANK = 8
# So many elements are widened at a time, so that they stay in the cache.
_CHUNK = 2**17
# The dtypes that are read, as NumPy's dtypes in the file; bfloat16 is read as its bits.
_DISK = {
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "F64": "<f8",
    "BOOL": "?",
    "I8": "i1",
    "I16": "<i2",
    "I32": "<i4",
    "I64": "<i8",
    "U8": "u1",
}
# The dtypes that are written, by NumPy's names.
_NAMES = {
    "float32": "F32",
    "uint16": "BF16",
    "float64": "F64",
    "bool": "BOOL",
    "int8": "I8",
    "int16": "I16",
    "int32": "I32",
    "int64": "I64",
    "uint8": "U8",
}
# A weight in a foreign file may have these dtypes, all of which are exact in float32.
FLOATS = ("F32", "F16", "BF16")


def named(dtype: str) -> str:
    """Return the name that a file has for a dtype that is written, by NumPy's name."""
    return _NAMES[dtype]


class Entry(NamedTuple):
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class Header(NamedTuple):
    where: str
    """Function and file, the beginning of every message."""
    tensors: dict[str, Entry]
    metadata: dict[str, str]
    payload: int
    """Offset of the first tensor in the file."""


def serialize(arrays: Mapping[str, AnyArray], form: str, about: Mapping[str, Any]) -> bytes:
    """Return the bytes of a safetensors file with these arrays and an entry for `read_about`."""
    file = BytesIO()
    layout = {name: (array.dtype.name, array.shape) for name, array in arrays.items()}
    write(file, layout, form, about, arrays.items())
    return file.getvalue()


def write(
    file: BinaryIO,
    layout: Layout,
    form: str,
    about: Mapping[str, Any],
    arrays: Iterable[tuple[str, AnyArray]],
) -> None:
    """Write a safetensors file into an empty file, one array at a time, in any order.

    In the file, larger elements come before smaller ones: each is aligned where the file is mapped.
    """
    entries: dict[str, Any] = {}
    end = 0
    disk = {name: np.dtype(_DISK[_NAMES[dtype]]) for name, (dtype, _) in layout.items()}
    for name in sorted(layout, key=lambda name: (-disk[name].itemsize, name)):
        dtype, shape = layout[name]
        begin, end = end, end + disk[name].itemsize * prod(shape)
        entries[name] = {"dtype": _NAMES[dtype], "shape": shape, "data_offsets": [begin, end]}
    metadata = {"treadle": json.dumps({"format": form, **about})}
    text = json.dumps({"__metadata__": metadata, **entries}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)
    missing = set(layout)
    for name, array in arrays:
        missing.remove(name)
        file.seek(8 + len(text) + entries[name]["data_offsets"][0])
        file.write(np.ascontiguousarray(array, disk[name]).reshape(-1).view(np.uint8).data)
    assert not missing, missing


def read_header(file: BufferedIOBase, size: int, where: str) -> Header:
    """Read and check the header of a file of ``size`` bytes. Raises ValueError."""
    start = file.read(8)
    if len(start) < 8:
        raise ValueError(f"{where} has {size} bytes, expected at least 8 (safetensors)")
    (length,) = struct.unpack("<Q", start)
    most = min(size - 8, _MAX_HEADER)
    if length > most:
        kind = kinds.kind(start + file.read(kinds.START))
        if kind is not None:
            raise ValueError(f"{where}, expected safetensors, is {kind}")
        raise ValueError(
            f"{where} claims a header of {length} bytes, expected at most {most} (safetensors, "
            f"{size} bytes in all)"
        )
    text = file.read(length)
    if len(text) < length:
        raise ValueError(f"{where} ends after {8 + len(text)} bytes, expected {size}")
    content = parse_json(text, f"{where}: header")
    metadata = content.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError(f"{where}: __metadata__ is {short(metadata)}, expected names with texts")
    tensors = {name: _entry(f"{where}: tensor {name!r:.100}", e) for name, e in content.items()}
    _check_offsets(where, tensors, size - 8 - length)
    return Header(where, tensors, metadata, 8 + length)


def read_about(header: Header, form: str, expected: Iterable[str]) -> dict[str, Any]:
    """Return the entries that treadle wrote into the metadata: exactly the expected ones."""
    text = header.metadata.get("treadle")
    if text is None:
        raise ValueError(f'{header.where} has no "treadle" in its metadata, expected {form}')
    about = parse_json(text.encode(errors="replace"), f'{header.where}: metadata "treadle"')
    if about.get("format") != form:
        raise ValueError(
            f"{header.where} has the format {short(about.get('format'))}, expected {form!r}"
        )
    names = {"format", *expected}
    if set(about) != names:
        raise ValueError(
            f'{header.where}: metadata "treadle" has the entries {short(sorted(about))}, '
            f"expected {sorted(names)}"
        )
    return about


def check_tensors(header: Header, layout: Layout) -> None:
    """Compare all tensors with the expected names, dtypes and shapes."""
    check_names(header, header.tensors, layout)
    for name, (dtype, shape) in layout.items():
        check_tensor(header, name, shape, (_NAMES[dtype],))


def check_names(header: Header, found: Collection[str], expected: Collection[str]) -> None:
    """Compare the names of tensors."""
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    if missing or unexpected:
        raise ValueError(
            f"{header.where} lacks the tensors {short(missing)} and has unexpected "
            f"{short(unexpected)}, expected exactly {len(expected)} tensors"
        )


def check_tensor(
    header: Header, name: str, shape: tuple[int, ...], dtypes: tuple[str, ...] = FLOATS
) -> None:
    """Compare a tensor of the file with the dtypes and the shape that it must have."""
    entry = header.tensors[name]
    if entry.dtype not in dtypes:
        raise ValueError(
            f"{header.where}: tensor {short(name)} has dtype {short(entry.dtype)}, expected "
            f"{' or '.join(map(repr, dtypes))}; cast it before it is saved"
        )
    if entry.shape != tuple(shape):
        raise ValueError(
            f"{header.where}: tensor {short(name)} has shape {entry.shape}, expected {tuple(shape)}"
            + foreign.hint(entry.shape, tuple(shape))
        )


def read(file: BufferedIOBase, header: Header, name: str, out: Float | None = None) -> AnyArray:
    """Read a tensor whose dtype has been checked: float32, bits of bfloat16 as uint16, or int8.

    Into ``out``, where it is given, as float32. float16 is always widened to float32, as nothing
    stores it; both are exact.
    """
    entry = header.tensors[name]
    disk = np.dtype(_DISK[entry.dtype])
    file.seek(header.payload + entry.begin)
    if entry.dtype == "F32" or (out is None and entry.dtype != "F16"):
        array: AnyArray = np.empty(entry.shape, disk.newbyteorder("=")) if out is None else out
        _fill(file, header, array.reshape(-1))
        return array if disk.isnative else array.byteswap(inplace=True)
    wide = np.empty(entry.shape, np.float32) if out is None else out
    flat = wide.reshape(-1)
    raw = np.empty(min(_CHUNK, flat.size), disk)
    for start in range(0, flat.size, _CHUNK):
        part, target = raw[: flat.size - start], flat[start : start + _CHUNK]
        _fill(file, header, part)
        if entry.dtype == "F16":
            target[:] = part
        else:
            widen(part, target)
    return wide


def _fill(file: BufferedIOBase, header: Header, array: AnyArray) -> None:
    if file.readinto(array.view(np.uint8).data) != array.nbytes:
        raise ValueError(f"{header.where}: the file was cut short while it was read")


def _entry(where: str, entry: object) -> Entry:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{where} is {short(entry)}, expected dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not (isinstance(dtype, str) and dtype):
        raise ValueError(f"{where} has dtype {short(dtype)}, expected a name")
    if not _are_sizes(shape) or len(shape) > _MAX_RANK:
        raise ValueError(
            f"{where} has shape {short(shape)}, expected at most {_MAX_RANK} integers >= 0"
        )
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"{where} has data_offsets {short(offsets)}, expected [begin, end]")
    begin, end = offsets
    item = np.dtype(_DISK[dtype]).itemsize if dtype in _DISK else None
    if item is not None and prod(shape) * item != end - begin:
        raise ValueError(
            f"{where} has {short(end - begin)} bytes, expected {item} for each element of "
            f"{short(shape)}"
        )
    return Entry(dtype, tuple(shape), begin, end)


def _are_sizes(values: object) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v < 2**63 for v in values)


def _check_offsets(where: str, tensors: dict[str, Entry], size: int) -> None:
    """Raise ValueError unless the tensors fill the rest of the file, one after the other."""
    end = 0
    for name, entry in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != end:
            raise ValueError(
                f"{where}: tensor {short(name)} begins at byte {entry.begin}, expected {end}, "
                "where the one before it ends"
            )
        end = entry.end
    if end != size:
        raise ValueError(f"{where}: the tensors take {end} bytes, expected {size} as in the file")

"""The weights of products are stored in the dtype of their layer, in memory and in files.

    float32   float32 [N, K]
    bfloat16  uint16 [N, K]: the upper half of a float32, rounded to nearest, even in the middle
    int8      int8 [N, K] and their scales, float32 [N, ceil(K / 256)]: w = scale * integer

In int8, 256 numbers along K of one output share a scale, max |w| / 127; the integers are
w / scale, rounded to nearest, even in the middle, from -127 to 127. Scales below 2^-126 are zero,
for they have no reciprocal. Where a number of the 256 is not finite, the scale is NaN, and so is
every output that uses it.

The rule for a layer's parameters is: those of two axes are the matrices of products and have its
dtype. Biases, norms, peepholes and learned keys have another number of axes and stay float32, and
so do embeddings, which belong to no layer with a dtype.

The weight [D, C, J] or [D, C, P, Q] of a convolution has all its axes in memory and in files. Its
product reads the taps after each other and the channels C within a tap, so that K counts j C + c.
In int8 each tap of an output has scales of its own where it has channels enough: they are those of
the matrix [D J, C].

The weight [C, D/g, J] or [C, D/g, P, Q] of a transposed convolution with g groups lies as PyTorch
has it, too. Its product has the outputs d of all groups as rows, and reads the channels C/g of a
group within a tap. In int8 each tap of an output always has scales of its own, and they have three
axes: [g, D/g, J ceil(C/g / 256)].

A matrix is converted in pieces that stay in the cache: no second float32 copy of it is ever made.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

import numpy as np

from treadle import _core
from treadle._inputs.arrays import widen
from treadle._inputs.checks import shape as check_shape
from treadle._inputs.checks import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from treadle._inputs.types import AnyArray, Bits, Float


BLOCK = _core.limits()["sum_block"]  # numbers along K that share an int8 scale
_PIECE = 2**16  # elements, a multiple of BLOCK
_TINY = np.float32(2.0**-126)


class Int8(NamedTuple):
    """A matrix in int8, in the form of the tuple that native layers take."""

    integers: npt.NDArray[np.int8]
    scales: Float

    @property
    def shape(self) -> tuple[int, ...]:
        return self.integers.shape

    @property
    def size(self) -> int:
        return self.integers.size


Stored: TypeAlias = "Float | Bits | Int8"


def stored_as(shape: tuple[int, ...], dtype: str) -> str:
    """Return the dtype in which a parameter of a layer of ``dtype`` is stored."""
    return dtype if len(shape) == 2 else "float32"


def dtype_of(value: Stored) -> str:
    """Return the dtype in which a parameter is stored."""
    if isinstance(value, Int8):
        return "int8"
    return "bfloat16" if value.dtype == np.uint16 else "float32"


def layout(
    name: str, shape: tuple[int, ...], dtype: str, groups: int = 0
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name the arrays that store a parameter in a file, each with its NumPy dtype and shape.

    ``groups`` are those of the transposed convolution whose weight it is; 0 is anything else.
    """
    if dtype == "int8":
        rows, columns = _rows(shape, dtype, groups)
        outputs = (groups, shape[1]) if groups else shape[:1]
        scales = (*outputs, rows * -(-columns // BLOCK))
        return {name: ("int8", shape), f"{name}.scale": ("float32", scales)}
    return {name: ("uint16" if dtype == "bfloat16" else "float32", shape)}


def arrays(name: str, value: Stored) -> dict[str, AnyArray]:
    """Return the arrays that store a parameter, under the names that `layout` gives them."""
    if isinstance(value, Int8):
        return {name: value.integers, f"{name}.scale": value.scales}
    return {name: value}


def joined(parts: list[AnyArray]) -> Stored:
    """Return the parameter that these arrays store, in the order of `layout`."""
    return Int8(*parts) if len(parts) == 2 else parts[0]


def nbytes(shape: tuple[int, ...], dtype: str, groups: int = 0) -> int:
    """Return the bytes that a parameter takes, scales included."""
    parts = layout("", shape, dtype, groups).values()
    return sum(np.dtype(kind).itemsize * prod(size) for kind, size in parts)


def empty(shape: tuple[int, ...], dtype: str, groups: int = 0) -> Stored:
    """Allocate a parameter; its numbers are not set."""
    return joined([np.empty(s, d) for d, s in layout("", shape, dtype, groups).values()])


def rows(value: Stored, own: slice) -> Stored:
    """Return a view of some rows of a parameter."""
    return Int8(value.integers[own], value.scales[own]) if isinstance(value, Int8) else value[own]


def freeze(value: Stored) -> None:
    """Make a parameter read-only."""
    for array in arrays("", value).values():
        array.flags.writeable = False


def _rows(shape: tuple[int, ...], dtype: str, groups: int) -> tuple[int, int]:
    """Return how many rows of a product's matrix an output has, and how many columns they have."""
    if len(shape) < 3:
        return 1, prod(shape[1:])
    channels, taps = shape[0] // groups if groups else shape[1], prod(shape[2:])
    # Whether taps have scales of their own is known by the native code, which reads them.
    if dtype == "int8" and (groups or _core.Conv.taps_are_rows(channels, 1)):
        return taps, channels
    return 1, taps * channels


def _groups(value: Stored) -> int:
    """Return the groups of the transposed convolution that a value in int8 says it belongs to."""
    return value.scales.shape[0] if isinstance(value, Int8) and value.scales.ndim == 3 else 0


def matrix(value: Stored, dtype: str | None = None, groups: int = 0) -> Any:
    """Return the weight [D, C, taps..] of a convolution as the matrix of its product in its own or
    another dtype: [D, J C] with J taps, or [D J, C] in int8 where each tap has its own scales.

    With ``groups``, or scales of three axes, it is the weight [C, D/g, taps..] of a transposed one.
    """
    groups = groups or _groups(value)
    rows, columns = _rows(value.shape, dtype or dtype_of(value), groups)
    if isinstance(value, Int8):
        integers = matrix(cast("Float", value.integers), "int8", groups)
        return Int8(integers, value.scales.reshape(len(integers), -(-columns // BLOCK)))
    outputs = value.shape[0]
    if groups:  # [g, C/g, D/g, taps..]
        value = value.reshape(groups, value.shape[0] // groups, *value.shape[1:])
        outputs = groups * value.shape[2]
    return np.ascontiguousarray(np.moveaxis(value, 1, -1)).reshape(outputs * rows, columns)


def _unfolded(value: Stored, shape: tuple[int, ...], groups: int) -> Any:
    """Return the matrix of a convolution's product as its weight; `matrix` is the way there."""
    if isinstance(value, Int8):
        integers = _unfolded(cast("Float", value.integers), shape, groups)
        return Int8(integers, value.scales.reshape(layout("", shape, "int8", groups)[".scale"][1]))
    first, second, *taps = shape
    axes = (groups, second, *taps, first // groups) if groups else (first, *taps, second)
    return np.ascontiguousarray(np.moveaxis(value.reshape(axes), -1, 1)).reshape(shape)


def encode(value: Stored, dtype: str, out: Stored | None = None, groups: int = 0) -> Stored:
    """Convert a parameter to a dtype, or copy it, into ``out`` if that is given. ``groups`` are as
    in `layout`; a value in int8 knows them.
    """
    if len(value.shape) > 2 and dtype_of(value) != dtype:
        groups = groups or _groups(value)
        form = "int8" if isinstance(value, Int8) else dtype
        rounded = encode(matrix(value, form, groups), dtype)
        turned: Stored = _unfolded(rounded, value.shape, groups)
        return turned if out is None else encode(turned, dtype, out, groups)
    result = empty(value.shape, dtype, groups or _groups(value)) if out is None else out
    if dtype_of(value) == dtype:
        pairs = zip(arrays("", result).values(), arrays("", value).values(), strict=True)
        for target, source in pairs:
            target[...] = source
    else:
        for piece in _pieces(value.shape):
            _put(result, piece, _floats(value, piece))
    return result


def encode_turned(matrix: Float, dtype: str, out: Stored) -> Stored:
    """Convert a matrix [K, N] of float32 into ``out`` [N, K], the parameter of a dtype.

    The matrix is turned in pieces that stay in the cache, and each is rounded at once.
    """
    if dtype == "float32":
        _core.turn("encode_turned", matrix, cast("Float", out))
        return out
    count = max(1, _PIECE // max(len(matrix), 1))
    for row in range(0, matrix.shape[1], count):
        part = matrix[:, row : row + count]
        turned = np.empty(part.shape[::-1], np.float32)
        _core.turn("encode_turned", part, turned)
        encode(turned, dtype, rows(out, slice(row, row + count)))
    return out


def decode(value: Stored) -> Float:
    """Return the numbers that a parameter was rounded to, as a new array of float32."""
    result = np.empty(value.shape, np.float32)
    encode(value, "float32", result)
    return result


def checked(
    function: str, name: str, value: object, shape: tuple[int, ...], dtype: str, groups: int = 0
) -> Stored:
    """Check that a value from elsewhere has the form of a dtype; copy it unless it is contiguous.

    The values of the scales are checked by the native layers. Raises TypeError for another form,
    ValueError for another shape.
    """
    expected = layout(name, shape, dtype, groups)
    parts = value if dtype == "int8" else (value,)
    if not isinstance(parts, tuple) or len(parts) != len(expected):
        raise TypeError(f"{function}: {name} is {shown(value)}, expected int8 and its scales")
    found = []
    for part, (key, (kind, size)) in zip(parts, expected.items(), strict=True):
        if not isinstance(part, np.ndarray) or part.dtype != kind:
            have = part.dtype if isinstance(part, np.ndarray) else shown(part)
            raise TypeError(f"{function}: {key} is {have}, expected an array of {kind}")
        check_shape(function, key, part, size)
        found.append(np.require(part, kind, ["C", "A"]))
    return joined(found)


def _pieces(shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Cut a matrix into pieces, along K between blocks; any other parameter is one piece."""
    if len(shape) != 2:
        yield ()
        return
    columns = min(max(shape[1], 1), _PIECE)
    count = max(1, _PIECE // columns)
    for row in range(0, shape[0], count):
        for column in range(0, shape[1], columns):
            yield slice(row, row + count), slice(column, column + columns)


def _scales_of(piece: tuple[slice, ...]) -> tuple[slice, slice]:
    first = piece[1].start // BLOCK
    return piece[0], slice(first, first + _PIECE // BLOCK)


def _floats(value: Stored, piece: tuple[slice, ...]) -> Float:
    """Return a piece of a parameter as float32."""
    if isinstance(value, Int8):
        numbers = value.integers[piece].astype(np.float32)
        scales = np.repeat(value.scales[_scales_of(piece)], BLOCK, axis=1)
        with np.errstate(over="ignore", under="ignore"):
            numbers *= scales[:, : numbers.shape[1]]
        return numbers
    part = value[piece]
    return widen(part) if part.dtype == np.uint16 else part.astype(np.float32, copy=False)


def _put(result: Stored, piece: tuple[slice, ...], numbers: Float) -> None:
    """Round numbers to the dtype of the result and store them as a piece of it."""
    if isinstance(result, Int8):
        result.integers[piece], result.scales[_scales_of(piece)] = _quantized(numbers)
    elif result.dtype == np.uint16:
        result[piece] = _rounded(numbers)
    else:
        result[piece] = numbers


def _rounded(numbers: Float) -> npt.NDArray[np.uint32]:
    bits = np.ascontiguousarray(numbers).view(np.uint32)
    halves: npt.NDArray[np.uint32] = bits >> np.uint32(16)
    halves &= 1
    halves += np.uint32(0x7FFF)
    halves += bits
    halves >>= 16
    missing = np.isnan(numbers)
    if missing.any():  # rounding up would turn NaN into infinity or zero
        halves[missing] = bits[missing] >> 16 | 0x40
    return halves


def _quantized(numbers: Float) -> tuple[Float, Float]:
    """Return the integers, as floats, and the scales of each block."""
    starts = np.arange(0, numbers.shape[1], BLOCK)
    with np.errstate(invalid="ignore", under="ignore"):
        scales: Float = np.maximum.reduceat(np.abs(numbers), starts, axis=1)
        scales /= np.float32(127)
        scales += scales - scales  # makes infinite scales NaN
        scales[scales < _TINY] = 0
        divisors = np.where(scales > 0, scales, np.float32(np.inf))  # scales NaN and 0 give zeros
        quotients = numbers / np.repeat(divisors, BLOCK, axis=1)[:, : numbers.shape[1]]
    if np.isnan(scales).any():
        np.nan_to_num(quotients, copy=False)
    return np.clip(np.rint(quotients, out=quotients), -127, 127, out=quotients), scales

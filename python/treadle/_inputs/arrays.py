"""This module turns what treadle accepts as an array into NumPy arrays, and refuses the rest.

Accepted are NumPy arrays, objects with the buffer protocol (``array.array``, ``memoryview``), with
DLPack on the CPU (PyTorch, JAX) or with ``__array__``, and nested lists of Python numbers. A value
is never rounded behind the caller's back: an array of another dtype raises TypeError and says how
to cast it. Lists of Python numbers have no dtype and are converted.

Where float32 is expected, bfloat16 does too, since each of its numbers is one of float32: arrays of
ml_dtypes, PyTorch's and JAX's tensors, and arrays of uint16, which are taken as the bits of
bfloat16.

An array may be a view that claims more elements than there is memory, such as
``np.broadcast_to(0, 2**40)``. Every conversion therefore takes ``fits``, a function that raises for
a shape that the caller cannot use; it is called before memory is taken for a copy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from treadle import _core
from treadle._inputs.checks import MAX_RANK
from treadle._inputs.torch_memory import is_tensor, materialised, refuse_tracing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, TypeAlias

    from treadle._inputs.types import AnyArray, ArrayLike, Bool, DType, Float, Int

    Fits: TypeAlias = Callable[[AnyArray], object] | None

_FLOAT32 = np.dtype(np.float32)
# NumPy has no dtype for bfloat16. This one holds the bits and is no integer, which a caller that
# expects integers would accept.
_BFLOAT16 = np.dtype([("bfloat16", np.uint16)])
# DLPack's numbers for memory that the CPU reads: CPU, and page-locked host memory of CUDA and ROCm.
_HOST_MEMORY = (1, 3, 11)
# A copy of so many bytes takes a few hundredths of a second.
_BLOCK_BYTES = 1 << 26
# Reading a foreign object as an array may raise these; its own code runs, so the list is long.
_UNREADABLE = (TypeError, ValueError, RuntimeError, BufferError, AttributeError, OverflowError)


def to_float32(function: str, name: str, value: ArrayLike, fits: Fits = None) -> Float:
    """Return ``value`` as a float32 array: native byte order, aligned, last axis contiguous.

    No copy when it is all that already; strides of the leading axes may be anything. bfloat16 is
    widened.
    """
    if type(value) is np.ndarray and value.dtype is _FLOAT32:  # the usual case has to be fast
        flags = value.flags
        if flags.c_contiguous and flags.aligned:
            if fits is not None:
                fits(value)
            return value
    array = viewed(function, name, value)
    if fits is not None:
        fits(array)
    return laid(array)


def viewed(function: str, name: str, value: ArrayLike) -> AnyArray:
    """Return ``value`` as a view of float32 or of bfloat16's bits, for `laid`."""
    if type(value) is np.ndarray and value.dtype is _FLOAT32:
        return value
    if isinstance(value, list | tuple):
        return _float32_from_list(function, name, value)
    array = _as_array(function, name, value)
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:
        return array
    if _is_bfloat16(array):
        return array.view(np.uint16)
    if array.dtype.kind != "f" or array.dtype.itemsize != 4:
        raise _wrong_dtype(function, name, value, array, "float32", "float32 or bfloat16")
    return array


def laid(array: AnyArray) -> Float:
    """Return what `viewed` has returned as `to_float32` returns it."""
    if array.dtype is _FLOAT32 and array.ndim and array.strides[-1] == 4 and array.flags.aligned:
        return array  # the usual case has to be fast
    if array.dtype.kind == "u":
        return widen(array)
    spread = array.ndim > 0 and array.shape[-1] > 1 and array.strides[-1] != 4
    if spread or not array.flags.aligned or not array.dtype.isnative:
        array = copied(array, _FLOAT32)
    return array


def copied(array: AnyArray, dtype: DType | None = None) -> AnyArray:
    """Return a contiguous copy of an array, in a dtype that holds its numbers."""
    copy = np.empty(array.shape, array.dtype if dtype is None else dtype)
    for index in _blocks(copy):
        copy[index] = array[index]
    return copy


def contiguous(array: AnyArray) -> AnyArray:
    """Return the array, or a copy if it is not contiguous."""
    return array if array.flags.c_contiguous else copied(array)


def _blocks(array: AnyArray) -> Iterator[tuple[Any, ...]]:
    """Yield the indices of blocks that make up an array.

    NumPy does not answer Ctrl-C within a copy, so a large one is made block by block.
    """
    if array.ndim == 0 or array.nbytes <= _BLOCK_BYTES:
        yield (...,)
        return
    first = array.shape[0]
    each = array.nbytes // first
    if each > _BLOCK_BYTES and array.ndim > 1:
        for i in range(first):
            for index in _blocks(array[i]):
                yield (i, *index)
        return
    step = max(1, _BLOCK_BYTES // each)
    for i in range(0, first, step):
        yield (slice(i, i + step),)


def to_dense(function: str, name: str, value: ArrayLike, fits: Fits = None) -> Float:
    """Convert as `to_float32` does, to a contiguous array; for arrays small beside x and y."""
    array = to_float32(function, name, value, fits)
    return contiguous(array)


def to_weight(function: str, name: str, value: ArrayLike, fits: Fits = None) -> AnyArray:
    """Return ``value`` as float32, or the bits of bfloat16 as uint16 if it has that dtype."""
    array = viewed(function, name, value)
    if fits is not None:
        fits(array)
    return array.astype(np.uint16, copy=False) if array.dtype.kind == "u" else laid(array)


def to_int64(function: str, name: str, value: ArrayLike, fits: Fits = None) -> Int:
    """Return a new int64 array from integers of any width; floats and bools are refused."""
    if isinstance(value, list | tuple):
        array = _from_list(function, name, value, "integers", _is_integer)
        if array.size == 0:
            array = array.astype(np.int64)
    else:
        array = _as_array(function, name, value)
    if array.dtype.kind not in "iu":
        raise _wrong_dtype(function, name, value, array, "int64")
    if fits is not None:
        fits(array)
    if array.dtype.kind == "u" and array.size and int(array.max()) >= 2**63:
        raise ValueError(f"{function}: {name} holds {array.max()}, expected less than 2**63")
    return copied(array, np.dtype(np.int64))


def to_bool(function: str, name: str, value: ArrayLike, fits: Fits = None) -> Bool:
    """Return ``value`` as a contiguous array of bools; numbers are refused."""
    if isinstance(value, list | tuple):
        array = _from_list(function, name, value, "bools", _is_bool)
        if array.size == 0:
            array = array.astype(np.bool_)
    else:
        array = _as_array(function, name, value)
    if array.dtype.kind != "b":
        raise _wrong_dtype(function, name, value, array, "bool")
    if fits is not None:
        fits(array)
    return contiguous(array)


def to_mask(function: str, name: str, value: ArrayLike, fits: Fits = None) -> AnyArray:
    """Return a mask as bool or float32, its last axis contiguous; other axes have any strides."""
    if isinstance(value, list | tuple):
        first: ArrayLike = value
        for _ in range(MAX_RANK):
            first = first[0] if isinstance(first, list | tuple) and first else first
        return (to_bool if _is_bool(first) else to_float32)(function, name, value, fits)
    array = _as_array(function, name, value)
    if fits is not None:
        fits(array)
    if array.dtype.kind == "b":
        spread = array.ndim > 0 and array.shape[-1] > 1 and array.strides[-1] != 1
        return copied(array) if spread else array
    if (array.dtype.kind == "f" and array.dtype.itemsize == 4) or _is_bfloat16(array):
        return to_float32(function, name, array)  # refuses uint16, which may be meant as integers
    raise _wrong_dtype(function, name, value, array, "float32", "bool or float32")


def to_rows(function: str, name: str, value: ArrayLike, fits: Fits = None) -> Int | Bool:
    """Return a choice of rows as the array of their numbers, or as one bool for each row."""
    first = value[0] if isinstance(value, list | tuple) and value else value
    if isinstance(first, bool) or str(getattr(first, "dtype", "")).endswith("bool"):
        return to_bool(function, name, value, fits)
    return np.atleast_1d(to_int64(function, name, value, fits))


def to_pair(function: str, name: str, value: ArrayLike) -> tuple[ArrayLike, ArrayLike]:
    """Check that an LSTM's state is a pair, and return (h, c)."""
    if not isinstance(value, list | tuple):
        raise TypeError(f"{function}: {name} is {_kind(value)}, expected a tuple (h, c)")
    if len(value) != 2:
        raise ValueError(f"{function}: {name} has {len(value)} items, expected a tuple (h, c)")
    return value[0], value[1]


def widen(bits: AnyArray, out: Float | None = None) -> Float:
    """Return bfloat16 numbers, given by their bits, as float32, which is exact."""
    result = np.empty(bits.shape, np.float32) if out is None else out
    whole = result.view(np.uint32)
    for index in _blocks(whole):
        part = whole[index]
        part[...] = bits[index]
        np.left_shift(part, 16, out=part)
    return result


def _as_array(function: str, name: str, value: ArrayLike) -> AnyArray:
    """Return any object as a plain ndarray of the dtype that it has."""
    if is_tensor(value):
        refuse_tracing(function, name)
        return _from_tensor(function, name, materialised(function, name, value))
    if not isinstance(value, np.ndarray) and hasattr(value, "__dlpack__"):
        return _from_dlpack(function, name, value)
    try:
        return np.asarray(value)
    except _UNREADABLE as error:
        raise _unreadable(function, name, value, error) from error


def _from_tensor(function: str, name: str, tensor: Any) -> AnyArray:
    """Return an array that shares the memory of a PyTorch tensor that has such memory."""
    if str(tensor.dtype) == "torch.bfloat16":
        bits = tensor.view(import_module("torch").int16)
        return _from_tensor(function, name, bits).view(_BFLOAT16)
    try:
        return _core.tensor_array(tensor)
    except TypeError:  # another dtype than the usual ones
        pass
    try:
        array: AnyArray = tensor.detach().numpy()
    except _UNREADABLE as error:  # NumPy has no such dtype
        raise _unreadable(function, name, tensor, error) from error
    return array


def _from_dlpack(function: str, name: str, value: ArrayLike) -> AnyArray:
    try:
        device = int(value.__dlpack_device__()[0])
    except _UNREADABLE as error:
        raise _unreadable(function, name, value, error) from error
    if device not in _HOST_MEMORY:
        where = getattr(value, "device", f"DLPack {device}")
        raise TypeError(
            f"{function}: {name} is on the device {where}, expected the CPU: copy it there first"
        )
    try:
        return np.from_dlpack(value)
    except _UNREADABLE:
        # NumPy may not know the dtype in DLPack, or the array is read-only and the protocol too old
        # to say so. The object's own conversion may do better, or tell what is wrong.
        try:
            return np.asarray(value)
        except _UNREADABLE as error:
            raise _unreadable(function, name, value, error) from error


def _is_bfloat16(array: AnyArray) -> bool:
    """Tell whether an array holds bfloat16: ml_dtypes' (not necessarily installed) or PyTorch's."""
    dtype = array.dtype
    return dtype.itemsize == 2 and (dtype.name == "bfloat16" or dtype == _BFLOAT16)


def _float32_from_list(function: str, name: str, value: ArrayLike) -> Float:
    array = _from_list(function, name, value, "floats", _is_float32)
    if array.dtype.kind not in "fiu":
        raise _wrong_dtype(function, name, value, array, "float32")
    try:
        with np.errstate(over="raise", under="ignore"):
            return array.astype(_FLOAT32)
    except FloatingPointError:
        raise ValueError(
            f"{function}: {name} holds {np.abs(array).max()}, expected numbers in float32's range"
        ) from None


def _from_list(
    function: str,
    name: str,
    value: ArrayLike,
    expected: str,
    accepts: Callable[[object], bool],
) -> AnyArray:
    """Return a nested list as an array, if `accepts` is true for every innermost item."""
    try:
        array = np.asarray(value)
    except _UNREADABLE as error:  # ragged, too deep, a number beyond 64 bits
        raise ValueError(
            f"{function}: {name} is a list that does not form an array of {expected}: {error}"
        ) from error
    if array.dtype.kind == "O":
        raise TypeError(
            f"{function}: {name} is a list with items that are no numbers or too large for one, "
            f"expected {expected}"
        )
    pending = [value]
    while pending:
        for item in pending.pop():
            if isinstance(item, list | tuple):
                pending.append(item)
            elif not accepts(item):
                raise TypeError(
                    f"{function}: {name} is a list that holds {_kind(item)}, expected {expected}"
                )
    return array


# The types are compared exactly: numpy.float64 is a subclass of float, and must not pass in a list.
def _is_float32(item: object) -> bool:
    return type(item) in (float, int) or _has_dtype(item, "f", 4)


def _is_integer(item: object) -> bool:
    return type(item) is int or _has_dtype(item, "iu")


def _is_bool(item: object) -> bool:
    return type(item) is bool or _has_dtype(item, "b")


def _has_dtype(item: object, kinds: str, itemsize: int | None = None) -> bool:
    if not isinstance(item, np.ndarray | np.generic):
        return False
    return item.dtype.kind in kinds and itemsize in (None, item.dtype.itemsize)


def _wrong_dtype(
    function: str,
    name: str,
    value: ArrayLike,
    array: AnyArray,
    cast_to: str,
    expected: str | None = None,
) -> TypeError:
    expected = expected or cast_to
    if array.dtype.kind in "OUSMmV" and not hasattr(value, "dtype"):  # `value` is no array at all
        return TypeError(f"{function}: {name} is {_kind(value)}, expected an array of {expected}")
    found = "bfloat16" if _is_bfloat16(array) else array.dtype
    if type(value).__module__.partition(".")[0] == "torch":
        cast = f"{name}.to(torch.{cast_to})"
    else:
        cast = f"{name}.astype({'bool' if cast_to == 'bool' else 'np.' + cast_to})"
    return TypeError(
        f"{function}: {name} has dtype {found}, expected {expected}: cast it with {cast}"
    )


def _unreadable(function: str, name: str, value: ArrayLike, error: Exception) -> TypeError:
    dtype = getattr(value, "dtype", None)
    found = _kind(value) if dtype is None else f"{_kind(value)} of dtype {dtype}"
    return TypeError(f"{function}: {name} is {found} that cannot be read as an array: {error}")


def _kind(value: object) -> str:
    return "None" if value is None else f"an object of type {type(value).__name__}"

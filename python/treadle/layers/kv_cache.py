"""Keys and values of the tokens so far: what incremental decoding carries from step to step."""

from __future__ import annotations

import copy
import math
import operator
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from treadle import _core
from treadle._inputs import checks
from treadle._inputs.arrays import to_float32, to_int64, widen
from treadle._inputs.attention import attention_settings, check_range, checked_out
from treadle._storage import formats
from treadle.layers.attention import MAX_HEAD_SIZE, attention_dtype

if TYPE_CHECKING:
    from typing import Any

    from treadle._inputs.types import AnyArray, ArrayLike, Float, Int

    # Keys or values: their numbers, and the scales of int8 [B, N, K].
    _Rows: TypeAlias = tuple[AnyArray, ...]

_LINE = 64  # bytes of a cache line


class KVCache:
    """Keys [B, N, K, E] and values [B, N, K, F] that grow while a sequence is decoded.

    Each of the B rows has a length of its own. `append` puts the keys and values of new tokens
    behind those of each row, `attend` lets queries that belong to the newest tokens attend to all
    that is there; `step` does both. Queries may have a multiple of the N heads, grouped as with
    ``enable_gqa`` in `treadle.functional.scaled_dot_product_attention`; keys and values are never
    repeated in memory.

    batch_size  B
    num_heads   N, the heads of keys and values
    head_size   E, in 1..256
    capacity    the number of tokens there is room for at first. The cache grows by doubling; with
                enough room from the beginning, nothing is ever copied
    value_size  F, in 1..256; E when None
    dtype       what keys and values are kept as: "float32", "bfloat16" (rounded to the nearest) or
                "int8" (a vector's 256 values at most share a scale, the largest magnitude / 127).
                What a few queries see of them (S at most 4, and 16 with all heads that share
                keys) is multiplied in float32; for more, in bfloat16 unless the cache is of
                float32

    A cache may not be used by two threads at a time. It takes B N (E + F) numbers for each token of
    its capacity, of 4, 2 or 1 bytes, and 8 B N bytes for the scales of int8. Decoding reads all of
    them for every token, so that the time of a step falls with them.

    Raises ValueError or TypeError for wrong arguments; a call that raises changes nothing.

    >>> import numpy as np, treadle
    >>> cache = treadle.KVCache(1, 2, 8, capacity=64)
    >>> prompt = np.ones((1, 2, 5, 8), np.float32)
    >>> cache.step(np.ones((1, 4, 5, 8), np.float32), prompt, prompt).shape
    (1, 4, 5, 8)
    >>> token = np.ones((1, 2, 1, 8), np.float32)
    >>> cache.step(np.ones((1, 4, 1, 8), np.float32), token, token).shape
    (1, 4, 1, 8)
    >>> cache
    KVCache(1, 2, 8, lengths=[6], capacity=64)

    Source: Shazeer, Fast Transformer Decoding, arXiv:1911.02150; Ainslie et al., arXiv:2305.13245.
    """

    def __init__(
        self,
        batch_size: int,
        num_heads: int,
        head_size: int,
        capacity: int = 256,
        *,
        value_size: int | None = None,
        dtype: Any = "float32",
    ) -> None:
        name = "treadle.KVCache"
        batch_size = checks.integer(name, "batch_size", batch_size)
        num_heads = checks.integer(name, "num_heads", num_heads)
        head_size = checks.integer(name, "head_size", head_size, most=MAX_HEAD_SIZE)
        capacity = checks.integer(name, "capacity", capacity)
        if value_size is None:
            value_size = head_size
        value_size = checks.integer(name, "value_size", value_size, most=MAX_HEAD_SIZE)
        self._dtype = checks.dtype(name, "dtype", dtype)
        self._lengths = np.zeros(batch_size, np.int64)
        self._keys = self._room(name, (batch_size, num_heads, capacity, head_size))
        self._values = self._room(name, (batch_size, num_heads, capacity, value_size))

    @property
    def lengths(self) -> Int:
        """[B]: how many tokens each row holds; a copy."""
        return self._lengths.copy()

    @property
    def capacity(self) -> int:
        """How many tokens of a row there is room for before the cache has to grow."""
        capacity: int = self._keys[0].shape[2]
        return capacity

    @property
    def keys(self) -> Float:
        """[B, N, K, E] with K the longest row's length: a read-only view, until the cache grows;
        float32 copies of what they were rounded to where the cache has another dtype. What lies
        beyond the length of a row is of no meaning.
        """
        return self._seen(self._keys)

    @property
    def values(self) -> Float:
        """[B, N, K, F], like `keys`."""
        return self._seen(self._values)

    def append(self, k: ArrayLike, v: ArrayLike, lengths: ArrayLike | None = None) -> None:
        """Put k [B, N, S, E] and v [B, N, S, F] behind the tokens of each row.

        ``lengths`` [B], integers in 0..S: how many of the S are real in each row, for rows that
        advance at different speeds; all of them when left out.
        """
        function = "treadle.KVCache.append"
        self._append(function, *self._checked(function, k, v), lengths)

    def attend(
        self,
        q: ArrayLike,
        *,
        lengths: ArrayLike | None = None,
        scale: float | None = None,
        window: int | tuple[int | None, int | None] | None = None,
        softcap: float | None = None,
        alibi_slopes: ArrayLike | None = None,
        out: Float | None = None,
    ) -> Float:
        """What queries of the newest tokens see: [B, N', S, F] from q [B, N', S, E].

        N' is a multiple of N. The S queries of a row belong to its last S tokens, and each attends
        to its own token and to those before it. ``lengths`` [B]: how many of the S queries of a row
        are real, as they were appended; the others give zeros. A row that holds fewer tokens than
        it has queries is an error. The other arguments are those of
        `treadle.functional.scaled_dot_product_attention`.
        """
        function = "treadle.KVCache.attend"
        query = self._query(function, q)
        count = self._counts(function, lengths, query.shape[2])
        return self._attend(
            function, query, count, self._lengths, scale, window, softcap, alibi_slopes, out
        )

    def step(
        self,
        q: ArrayLike,
        k: ArrayLike,
        v: ArrayLike,
        *,
        lengths: ArrayLike | None = None,
        scale: float | None = None,
        window: int | tuple[int | None, int | None] | None = None,
        softcap: float | None = None,
        alibi_slopes: ArrayLike | None = None,
        out: Float | None = None,
    ) -> Float:
        """`append` k and v, then `attend` with q, all of S tokens: [B, N', S, F]."""
        function = "treadle.KVCache.step"
        query, arrays = self._query(function, q), self._checked(function, k, v)
        if query.shape[2] != arrays[0].shape[2]:
            raise ValueError(
                f"{function}: q has shape {query.shape}, expected [B, N, S, E] with "
                f"S = {arrays[0].shape[2]} as in k"
            )
        before = self._lengths
        count = self._append(function, *arrays, lengths)
        try:
            return self._attend(
                function, query, count, self._lengths, scale, window, softcap, alibi_slopes, out
            )
        except BaseException:
            self._lengths = before
            raise

    def truncate(self, lengths: ArrayLike) -> None:
        """Forget the newest tokens: row b keeps its first ``lengths[b]`` (speculative decoding)."""
        function = "treadle.KVCache.truncate"
        kept = to_int64(function, "lengths", lengths)
        checks.shape(function, "lengths", kept, self._lengths.shape, "B")
        if (kept < 0).any() or (kept > self._lengths).any():
            raise ValueError(
                f"{function}: lengths are {kept.tolist()!r:.60}, expected 0 to those of the "
                f"cache, {self._lengths.tolist()!r:.60}"
            )
        self._lengths = kept

    def reset(self, rows: ArrayLike | None = None) -> None:
        """Forget all tokens, or those of some rows, given by number; others then begin there."""
        if rows is None:
            self._lengths = np.zeros_like(self._lengths)
            return
        chosen = self._rows("treadle.KVCache.reset", rows)
        self._lengths = self._lengths.copy()
        self._lengths[chosen] = 0

    def reorder(self, rows: ArrayLike) -> None:
        """Row b becomes a copy of what row ``rows[b]`` was (beam search)."""
        function = "treadle.KVCache.reorder"
        chosen = self._rows(function, rows)
        checks.shape(function, "rows", chosen, self._lengths.shape, "B")
        longest = int(self._lengths.max())
        arrays = (*self._keys, *self._values)
        moved = [array[chosen, :, :longest] for array in arrays]  # all of them, or none
        for array, rows_of_it in zip(arrays, moved, strict=True):
            array[:, :, :longest] = rows_of_it
        self._lengths = self._lengths[chosen]

    def __copy__(self) -> KVCache:
        # What is appended to one of two caches would overwrite what the other one holds.
        return copy.deepcopy(self)

    def __repr__(self) -> str:
        batch, heads, capacity, size = self._keys[0].shape
        value = self._values[0].shape[3]
        more = "" if value == size else f", value_size={value}"
        more += "" if self._dtype == "float32" else f", dtype={self._dtype!r}"
        lengths = repr(self._lengths.tolist()) if batch <= 8 else f"0..{self._lengths.max()}"
        return f"KVCache({batch}, {heads}, {size}, lengths={lengths}, capacity={capacity}{more})"

    # -- inside -----------------------------------------------------------------------------------

    def _seen(self, arrays: _Rows) -> Float:
        longest = int(self._lengths.max())
        numbers, *scales = (array[:, :, :longest] for array in arrays)
        if self._dtype == "float32":
            seen = numbers
        elif scales:
            with np.errstate(all="ignore"):  # beyond the length of a row there may be anything
                seen = numbers * scales[0][..., None]
        else:
            seen = widen(numbers)
        seen.flags.writeable = False
        return seen

    def _room(self, function: str, shape: tuple[int, ...]) -> _Rows:
        """Memory for rows of keys or values, and for their scales."""
        if self._dtype == "int8":
            return _room(function, shape, np.int8), _room(function, shape[:3], np.float32)
        return (_room(function, shape, np.uint16 if self._dtype == "bfloat16" else np.float32),)

    def _stored(self, rows: Float) -> _Rows:
        """New rows as they are kept."""
        if self._dtype == "float32":
            return (rows,)
        stored = formats.encode(rows.reshape(-1, rows.shape[3]), self._dtype)
        if isinstance(stored, formats.Int8):
            return stored.integers.reshape(rows.shape), stored.scales.reshape(rows.shape[:3])
        return (stored.reshape(rows.shape),)

    def _checked(self, function: str, k: ArrayLike, v: ArrayLike) -> tuple[Float, Float]:
        """New keys and values whose shapes fit."""
        key, value = to_float32(function, "k", k), to_float32(function, "v", v)
        batch, heads, _, size = self._keys[0].shape
        checks.shape(function, "k", key, (batch, heads, None, size), "BNSE")
        steps = key.shape[2]
        expected = (batch, heads, steps, self._values[0].shape[3])
        checks.shape(function, "v", value, expected, "BNSF")
        return key, value

    def _query(self, function: str, q: ArrayLike) -> Float:
        query = to_float32(function, "q", q)
        batch, heads, _, size = self._keys[0].shape
        checks.shape(function, "q", query, (batch, None, None, size), "BNSE")
        if query.shape[1] == 0 or query.shape[1] % heads:
            raise ValueError(
                f"{function}: q has shape {query.shape}, expected [B, N, S, E] with N a multiple "
                f"of the {heads} heads of keys and values"
            )
        return query

    def _counts(self, function: str, lengths: ArrayLike | None, steps: int) -> Int:
        """How many of S tokens are real in each row."""
        if lengths is None:
            return np.full_like(self._lengths, steps)
        count = to_int64(function, "lengths", lengths)
        checks.shape(function, "lengths", count, self._lengths.shape, "B")
        check_range(function, "lengths", count, "S", steps)
        return count

    def _append(self, function: str, k: Float, v: Float, lengths: ArrayLike | None) -> Int:
        count = self._counts(function, lengths, k.shape[2])
        after = self._lengths + count
        places = list(zip(self._lengths.tolist(), after.tolist(), strict=True))
        self._grow(function, max(end for _, end in places))
        if len(set(places)) == 1:  # the rows advance together
            rows: list[tuple[int | slice, tuple[int, int]]] = [(slice(None), places[0])]
        else:
            rows = list(enumerate(places))
        targets, sources = (*self._keys, *self._values), (*self._stored(k), *self._stored(v))
        for target, source in zip(targets, sources, strict=True):
            for row, (begin, end) in rows:
                own = row if isinstance(row, slice) else slice(row, row + 1)
                target[own, :, begin:end] = source[own, :, : end - begin]
        self._lengths = after
        return count

    def _attend(
        self,
        function: str,
        query: Float,
        count: Int,
        lengths: Int,
        scale: float | None,
        window: int | tuple[int | None, int | None] | None,
        softcap: float | None,
        alibi_slopes: ArrayLike | None,
        out: Float | None,
    ) -> Float:
        # As Python's integers: a step of a small model takes less time than NumPy's reductions.
        tokens = lengths.tolist()
        if any(map(operator.gt, count.tolist(), tokens)):
            raise ValueError(
                f"{function}: q has {int(count.max())} queries for rows of {int(lengths.min())} "
                "tokens or more, expected no more queries than tokens; append their keys first"
            )
        settings = attention_settings(
            function, query.shape[3], query.shape[1], scale, window, softcap, alibi_slopes
        )
        if out is not None:
            shape = (*query.shape[:3], self._values[0].shape[3])
            inputs = {
                "q": query,
                "the cached keys": self._keys[0],
                "the cached values": self._values[0],
            }
            checked_out(function, out, shape, inputs)
        longest = max(tokens)
        options = (
            None,
            True,
            settings.scale,
            count,
            lengths,
            settings.window,
            settings.softcap,
            settings.alibi_slopes,
            lengths - count,
            (0.0, 0),
            attention_dtype(self._dtype),
        )
        keys, values = (_native(rows, longest) for rows in (self._keys, self._values))
        return _core.attention(function, query, keys, values, options, out, None, None)

    def _grow(self, function: str, tokens: int) -> None:
        """Make room for rows of so many tokens."""
        if tokens <= self.capacity:
            return
        capacity = max(tokens, 2 * self.capacity)
        longest = int(self._lengths.max())
        grown = []
        for arrays in (self._keys, self._values):
            batch, heads, _, size = arrays[0].shape
            larger = self._room(function, (batch, heads, capacity, size))
            for target, source in zip(larger, arrays, strict=True):
                target[:, :, :longest] = source[:, :, :longest]
            grown.append(larger)
        self._keys, self._values = grown

    def _rows(self, function: str, rows: ArrayLike) -> Int:
        chosen = np.atleast_1d(to_int64(function, "rows", rows))
        batch = len(self._lengths)
        if chosen.ndim != 1 or (chosen < 0).any() or (chosen >= batch).any():
            raise ValueError(
                f"{function}: rows is {checks.shown(chosen.tolist())}, "
                f"expected integers in 0..{batch - 1}"
            )
        return chosen


def _native(rows: _Rows, longest: int) -> Any:
    """The rows up to the longest, as the native function takes them."""
    seen = tuple(array[:, :, :longest] for array in rows)
    return seen if len(seen) == 2 else seen[0]


def _room(function: str, shape: tuple[int, ...], dtype: type[np.generic]) -> AnyArray:
    """Memory that is not touched before it is used, from the beginning of a cache line on.

    Large arrays of NumPy's begin 16 bytes behind one, where every vector lies across two lines.
    """
    try:
        items = _LINE // np.dtype(dtype).itemsize
        numbers = np.empty(math.prod(shape) + items, dtype)
        begin = -numbers.ctypes.data // numbers.itemsize % items
        return numbers[begin : begin + math.prod(shape)].reshape(shape)
    except (MemoryError, ValueError):
        raise MemoryError(
            f"{function}: the sizes ask for an array {shape} of {np.dtype(dtype)}, "
            "expected sizes that fit in memory"
        ) from None

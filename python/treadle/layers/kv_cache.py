"""A cache holds the keys and values of earlier tokens, which decoding carries from step to step."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from treadle import _core
from treadle._inputs import checks
from treadle._inputs.arrays import to_float32, to_int64, widen
from treadle._inputs.attention import check_range, checked_out, score_options
from treadle._public import published
from treadle.layers.attention import MAX_HEAD_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from treadle._core import AttentionOptions
    from treadle._inputs.types import AnyArray, ArrayLike, Float, Int


@published("treadle")
class KVCache:
    """A cache of keys [B, N, K, E] and values [B, N, K, F] that grows while sequences are decoded.

    Each of the B rows has its own length. `append` puts the keys and values of new tokens behind
    those of each row, `attend` lets queries that belong to the newest tokens attend to all tokens
    of their row; `step` does both. Queries may have a multiple of the N heads, grouped as with
    ``enable_gqa`` in `treadle.functional.scaled_dot_product_attention`; keys and values are never
    repeated in memory.

    Calls of threads that use one cache take turns, a whole `step` each. For each token of its
    capacity it takes B N (E + F) numbers of 4, 2 or 1 bytes, and 8 B N bytes for the scales of
    int8. Decoding reads all of these bytes for every token, so that fewer bytes make a step faster.

    Parameters
    ----------
    batch_size
        B
    num_heads
        N, the heads of keys and values.
    head_size
        E, in 1..256.
    capacity
        The number of tokens of a row for which there is room at first. The cache grows by doubling;
        with enough room from the beginning, nothing is ever copied.
    value_size
        F, in 1..256; E when None.
    dtype
        The dtype in which keys and values are kept: "float32", "bfloat16" (rounded to the nearest)
        or "int8" (a vector, of at most 256 values, has the scale largest magnitude / 127). A few
        queries (S at most 4, and 16 with all heads that share keys) are multiplied with keys and
        values in float32; more queries in bfloat16, unless the cache has float32. Steps of a few
        queries have the same bits however the tokens are cut into them, and so have longer chunks;
        the two differ by rounding.

    Raises
    ------
    TypeError, ValueError
        For wrong arguments. A call that raises changes nothing.

    References
    ----------
    Shazeer, Fast Transformer Decoding, arXiv:1911.02150; Ainslie et al., arXiv:2305.13245.

    Examples
    --------
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
        dtype = checks.dtype(name, "dtype", dtype)
        self._sizes = (batch_size, num_heads, head_size, value_size)
        self._dtype: str = dtype
        self._native = self._room(name, capacity)

    @property
    def lengths(self) -> Int:
        """The number of tokens in each row, a new array [B]."""
        return np.array(self._native.lengths, np.int64)

    @property
    def capacity(self) -> int:
        """The number of tokens of a row for which there is room before the cache has to grow."""
        return self._native.capacity

    @property
    def keys(self) -> Float:
        """The keys [B, N, K, E], with K the length of the longest row; read-only.

        They are a view, until the cache grows or a `reorder` moves many of its bytes, or copies in
        float32 where the cache has another dtype. The numbers beyond the length of a row have no
        meaning.
        """
        return self._seen(0)

    @property
    def values(self) -> Float:
        """The values [B, N, K, F], like `keys`."""
        return self._seen(1)

    def append(self, k: ArrayLike, v: ArrayLike, lengths: ArrayLike | None = None) -> None:
        """Put k [B, N, S, E] and v [B, N, S, F] behind the tokens of each row.

        ``lengths`` [B], integers in 0..S, says how many of the S tokens exist in each row, for rows
        that advance at different speeds. All exist when it is left out.
        """
        function = "treadle.KVCache.append"
        key, value = self._checked(function, k, v)
        self._append(function, key, value, self._counts(function, lengths, key.shape[2]))

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
        """Attend with queries of the newest tokens: [B, N', S, F] from q [B, N', S, E].

        N' is a multiple of N. The S queries of a row belong to its last S tokens, and each attends
        to its token and to the tokens before it. ``lengths`` [B] says how many of the S queries of
        a row exist, as in `append`; the others give zeros. A row that holds fewer tokens than it
        has queries is an error. The other arguments are those of
        `treadle.functional.scaled_dot_product_attention`.
        """
        function = "treadle.KVCache.attend"
        query = self._query(function, q)
        count = self._counts(function, lengths, query.shape[2])
        options = score_options(
            function, query.shape[3], query.shape[1], scale, window, softcap, alibi_slopes
        )
        return self._attend(function, query, count, options, out)

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
        """Append k and v, then attend with q, all of them of S tokens: [B, N', S, F]."""
        function = "treadle.KVCache.step"
        query, arrays = self._query(function, q), self._checked(function, k, v)
        if query.shape[2] != arrays[0].shape[2]:
            raise ValueError(
                f"{function}: q has shape {query.shape}, expected [B, N, S, E] with "
                f"S = {arrays[0].shape[2]} as in k"
            )
        count = self._counts(function, lengths, query.shape[2])
        options = score_options(
            function, query.shape[3], query.shape[1], scale, window, softcap, alibi_slopes
        )
        self._check_out(function, query, out)
        try:
            return self._native.step(function, query, *arrays, count, options, out)
        except MemoryError:
            raise self._no_room(function, query.shape[2]) from None

    def truncate(self, lengths: ArrayLike) -> None:
        """Forget the newest tokens: row b keeps its first ``lengths[b]`` (speculative decoding)."""
        function = "treadle.KVCache.truncate"
        fits = checks.fits(function, "lengths", self._sizes[:1], "B")
        kept = to_int64(function, "lengths", lengths, fits)
        self._native.truncate(function, kept)

    def reset(self, rows: ArrayLike | None = None) -> None:
        """Forget all tokens, or those of some rows, so that other sequences may begin there."""
        function = "treadle.KVCache.reset"
        every = np.arange(self._sizes[0])
        self._native.reset(function, every if rows is None else self._rows(function, rows))

    def reorder(self, rows: ArrayLike) -> None:
        """Replace row b by a copy of row ``rows[b]`` as it was before the call (beam search)."""
        function = "treadle.KVCache.reorder"
        chosen = self._rows(function, rows)
        checks.shape(function, "rows", chosen, self._sizes[:1], "B")
        with self._memory(function, self.capacity):
            self._native.reorder(function, chosen)

    def __copy__(self) -> KVCache:
        # If two caches shared memory, tokens appended to one would overwrite those of the other.
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__)
        with self._memory("treadle.KVCache", self.capacity):
            other._native = self._native.copy()
        return other

    def __deepcopy__(self, memo: dict[int, Any]) -> KVCache:
        return self.__copy__()

    def __getstate__(self) -> dict[str, Any]:
        own = self.__copy__()  # which no other thread changes
        tokens = own._native.lengths
        longest = max(tokens)
        return {
            **{name: value for name, value in self.__dict__.items() if name != "_native"},
            "capacity": own.capacity,
            "lengths": tokens,
            "rows": [array[:, :, :longest] for array in own._arrays()],
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        own = dict(state)
        capacity, lengths, rows = own.pop("capacity"), own.pop("lengths"), own.pop("rows")
        self.__dict__.update(own)
        self._native = self._room("treadle.KVCache", capacity)
        for target, source in zip(self._arrays(), rows, strict=True):
            target[:, :, : source.shape[2]] = source
        self._native.set_lengths("treadle.KVCache", np.array(lengths, np.int64))

    def __repr__(self) -> str:
        batch, heads, size, value = self._sizes
        more = "" if value == size else f", value_size={value}"
        more += "" if self._dtype == "float32" else f", dtype={self._dtype!r}"
        tokens = self._native.lengths
        lengths = repr(tokens) if batch <= 8 else f"0..{max(tokens)}"
        capacity = self.capacity
        return f"KVCache({batch}, {heads}, {size}, lengths={lengths}, capacity={capacity}{more})"

    # -- inside -----------------------------------------------------------------------------------

    def _room(self, function: str, capacity: int) -> _core.KeyValueCache:
        """Return an empty native cache of these sizes."""
        batch, heads, size, value = self._sizes
        with self._memory(function, capacity):
            return _core.KeyValueCache(
                function,
                batch_size=batch,
                num_heads=heads,
                head_size=size,
                value_size=value,
                capacity=capacity,
                dtype=self._dtype,
            )

    @contextmanager
    def _memory(self, function: str, capacity: int) -> Iterator[None]:
        """Turn a MemoryError into one that names the sizes."""
        try:
            yield
        except MemoryError:
            raise MemoryError(
                f"{function}: the sizes ask for keys and values of {capacity} tokens in "
                f"{self._sizes[0]} rows and {self._sizes[1]} heads, expected sizes that fit in "
                "memory"
            ) from None

    def _arrays(self) -> list[AnyArray]:
        """Return views of what is stored: keys, their scales if any, values, their scales."""
        arrays: list[AnyArray] = []
        for rows in self._native.rows():
            arrays.extend(rows if isinstance(rows, tuple) else (rows,))
        return arrays

    def _seen(self, which: int) -> Float:
        """Return the keys (0) or the values (1) of the tokens, read-only, as float32."""
        longest = max(self._native.lengths)
        rows = self._native.rows()[which]
        seen: Float
        if isinstance(rows, tuple):
            numbers, scales = (array[:, :, :longest] for array in rows)
            with np.errstate(all="ignore"):  # There may be anything beyond the length of a row.
                seen = numbers * scales[..., None]
        else:
            stored = rows[:, :, :longest]
            seen = widen(stored) if stored.dtype == np.uint16 else stored
        seen.flags.writeable = False
        return seen

    def _checked(self, function: str, k: ArrayLike, v: ArrayLike) -> tuple[Float, Float]:
        """Check the shapes of new keys and values."""
        batch, heads, size, value_size = self._sizes
        of_key = checks.fits(function, "k", (batch, heads, None, size), "BNSE")
        key = to_float32(function, "k", k, of_key)
        expected = (batch, heads, key.shape[2], value_size)
        return key, to_float32(function, "v", v, checks.fits(function, "v", expected, "BNSF"))

    def _query(self, function: str, q: ArrayLike) -> Float:
        batch, heads, size, _ = self._sizes
        of_query = checks.fits(function, "q", (batch, None, None, size), "BNSE")
        query = to_float32(function, "q", q, of_query)
        if query.shape[1] == 0 or query.shape[1] % heads:
            raise ValueError(
                f"{function}: q has shape {query.shape}, expected [B, N, S, E] with N a multiple "
                f"of the {heads} heads of keys and values"
            )
        return query

    def _counts(self, function: str, lengths: ArrayLike | None, steps: int) -> Int:
        """Return how many of S tokens are real in each row."""
        if lengths is None:
            return np.full(self._sizes[0], steps, np.int64)
        fits = checks.fits(function, "lengths", self._sizes[:1], "B")
        count = to_int64(function, "lengths", lengths, fits)
        check_range(function, "lengths", count, "S", steps)
        return count

    def _append(self, function: str, key: Float, value: Float, count: Int) -> None:
        try:
            self._native.append(function, key, value, counts=count)
        except MemoryError:
            raise self._no_room(function, key.shape[2]) from None

    def _no_room(self, function: str, tokens: int) -> MemoryError:
        return MemoryError(
            f"{function}: there is no memory for {self._sizes[0]} rows of "
            f"{max(self._native.lengths) + tokens} tokens"
        )

    def _attend(
        self,
        function: str,
        query: Float,
        count: Int,
        options: AttentionOptions,
        out: Float | None,
    ) -> Float:
        self._check_out(function, query, out)
        return self._native.attend(function, query, count, options, out)

    def _check_out(self, function: str, query: Float, out: Float | None) -> None:
        """Check the array for the results, if there is one, and that it lies apart."""
        if out is None:
            return
        inputs = {"q": query}
        for name, rows in zip(("keys", "values"), self._native.rows(), strict=True):
            inputs[f"the cached {name}"] = rows[0] if isinstance(rows, tuple) else rows
        checked_out(function, out, (*query.shape[:3], self._sizes[3]), inputs)

    def _rows(self, function: str, rows: ArrayLike) -> Int:
        batch = self._sizes[0]

        def fits(rows: AnyArray) -> None:
            if rows.ndim and rows.size > batch:
                checks.shape(function, "rows", rows, (batch,), "B")

        chosen = np.atleast_1d(to_int64(function, "rows", rows, fits))
        if chosen.ndim != 1 or (chosen < 0).any() or (chosen >= batch).any():
            raise ValueError(
                f"{function}: rows is {checks.shown(chosen.tolist())}, "
                f"expected integers in 0..{batch - 1}"
            )
        return chosen

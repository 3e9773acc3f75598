"""This module defines StreamPool: many streams of one layer, any of which advance in one call."""

from __future__ import annotations

from collections.abc import Mapping
from operator import index
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from treadle import _core
from treadle._inputs.arrays import to_int64
from treadle._inputs.checks import integer, number
from treadle._public import published
from treadle.layers.module import Module
from treadle.layers.pooled_recurrent import PooledRecurrent
from treadle.layers.recurrent_base import RecurrentBase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self

    from treadle._inputs.types import AnyArray, ArrayLike, Float, Int

_FUNCTION = "treadle.StreamPool"
_MOST = 2**24  # cpp/engine/recurrent/stream_slots.h


@published("treadle")
class PooledStream:
    """A PooledStream is one stream of a `treadle.StreamPool`; `StreamPool.open` returns it.

    A stream that was closed or evicted stays so: its methods raise ValueError, and never see the
    stream that has its place now. ``id`` is its number, which `StreamPool.step` takes, too.

    Examples
    --------
    >>> import numpy as np, treadle
    >>> pool = treadle.StreamPool(treadle.LSTM(2, 4, seed=0), capacity=10)
    >>> with pool.open() as stream:
    ...     y = stream.push(np.ones((3, 2), np.float32))  # a chunk of three frames
    ...     h, c = stream.state
    >>> bool(np.all(h[0] == y[-1])), stream.is_open
    (True, False)
    """

    __slots__ = ("_id", "_pool")

    def __init__(self, pool: StreamPool, number: int) -> None:
        self._pool, self._id = pool, number

    @property
    def id(self) -> int:
        """The number of the stream, which no other stream of this process ever has."""
        return self._id

    def __index__(self) -> int:
        return self._id

    @property
    def pool(self) -> StreamPool:
        """The pool that the stream belongs to."""
        return self._pool

    @property
    def is_open(self) -> bool:
        """Return whether the stream has been neither closed nor evicted."""
        return self._pool._slots.is_open(self._id)

    @property
    def idle(self) -> float:
        """The seconds since the stream was opened or last used."""
        self._pool._open_id("idle", self._id)
        return self._pool._slots.idle_seconds(self._id)

    def push(self, frame: ArrayLike) -> Any:
        """Take the stream one frame further, [I] -> [H], or a chunk of frames, [T, I] -> [T, H]."""
        return self._pool._native.push(self._id, frame)

    @property
    def state(self) -> Any:
        """A copy of the state: h [L, H], of a cell [H]; or (h, c) of an LSTM. Assignment replaces
        it, and raises ValueError or TypeError for a state that does not fit.
        """
        return self._pool._shown(self._id)

    @state.setter
    def state(self, value: ArrayLike) -> None:
        self._pool._assign(self._id, value)

    def reset(self) -> None:
        """Set the state to that of a new stream."""
        self._pool._assign(self._id, None)

    def export(self) -> bytes:
        """Return the state as bytes for ``open(state=...)`` of a pool of the same model, anywhere.

        The format is safetensors, with a fingerprint of the model in its metadata.
        """
        return self._pool._exported(self._id)

    def close(self) -> None:
        """Give the place of the stream back. Nothing happens if it is closed already."""
        self._pool._slots.close(self._id)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError(
            "treadle.PooledStream: a stream cannot be pickled or copied; use export and open"
        )

    def __repr__(self) -> str:
        return f"PooledStream({self._id}{'' if self.is_open else ', closed'})"


@published("treadle")
class StreamPool:
    """Up to ``capacity`` independent streams of one layer or cell, opened and closed one by one.

    A call of `step` takes any of the open streams further, in one native call that costs what these
    streams cost, however many others are open. The result of a stream has the same bits as if it
    were alone: it depends neither on the other streams of a call nor on its place among them, nor
    on how its frames are cut into chunks, nor on the number of threads.

    Any thread may call anything at any time, and the lock of Python is released while a step
    computes: threads that step different streams run side by side. Calls that share a stream take
    turns. When a call raises, no state has changed. A pool keeps the weights that the layer had
    when the pool was made.

    Memory is bounded: ``capacity`` states, and the buffers of the calls that are under way. Where
    all places are taken, `open` closes the streams that have been idle for longer than ``max_idle``
    seconds, the longest idle first, one for each place that it needs; without ``max_idle``, or when
    none is idle, it raises RuntimeError. `evict` closes idle streams when it is called.

    Parameters
    ----------
    model
        A `treadle.RNN`, `treadle.LSTM` or `treadle.GRU` that reads forwards only, or a cell; or a
        `treadle.Sequential` of such layers and of layers that work on each frame alone; or a
        `treadle.Model` that carries a state. A step of a model is one run with a row for each
        stream, and a frame has the shape of the model's input without the axis of the batch.
    capacity
        The most streams that are open at the same time, at most 2**24.
    max_idle
        Seconds, or None.
    state, time
        Of a `treadle.Model`: {input: output} for each state, and {input: axis of time}, as in
        `treadle.Model.stream`.
    fixed
        Of a `treadle.Model`: inputs that are the same in every call, such as a sample rate. Frames
        are then a dict of the other inputs, or an array where there is only one.

    Raises
    ------
    TypeError, ValueError
        For a model that cannot stream, and for wrong arguments.
    MemoryError
        For more states than memory holds.

    Examples
    --------
    >>> import numpy as np, treadle
    >>> gru = treadle.GRU(2, 4, seed=0)
    >>> pool = treadle.StreamPool(gru, capacity=1000)
    >>> a, b = pool.open(), pool.open()
    >>> x = np.ones((5, 2), np.float32)
    >>> y = pool.step({a: x[0], b: x[:3]})  # a frame of one, a chunk of the other
    >>> y[a].shape, y[b].shape
    ((4,), (3, 4))
    >>> rest = a.push(x[1:])
    >>> bool(np.all(rest == gru(x[:, None])[0][1:, 0]))
    True
    >>> pool.step([a.id, b.id], np.ones((2, 2), np.float32)).shape  # or an array of ids
    (2, 4)
    >>> c = pool.open(state=a.export())  # goes on where a is, here or in another process
    >>> a.close()
    >>> pool.stats()["open"]
    2
    """

    __slots__ = ("__weakref__", "_capacity", "_engine", "_max_idle", "_native", "_slots")

    def __init__(
        self,
        model: Any,
        capacity: int,
        *,
        max_idle: float | None = None,
        state: Mapping[str, str] | None = None,
        fixed: Mapping[str, ArrayLike] | None = None,
        time: Mapping[str, int] | None = None,
    ) -> None:
        self._capacity = integer(_FUNCTION, "capacity", capacity, most=_MOST)
        if max_idle is not None:
            max_idle = number(_FUNCTION, "max_idle", max_idle, least=0)
        self._max_idle = max_idle
        self._engine = _engine(model, {"state": state, "fixed": fixed, "time": time})
        self._slots = _core.StreamSlots(_FUNCTION, self._capacity, self._engine.layout.width)
        self._native = self._engine.bind(self._slots)

    @property
    def capacity(self) -> int:
        """The most streams that are open at the same time."""
        return self._capacity

    @property
    def max_idle(self) -> float | None:
        """After so many idle seconds `open` may close a stream, or None."""
        return self._max_idle

    def open(self, state: ArrayLike | bytes | None = None) -> PooledStream:
        """Open a stream at the state zero, at one that was exported, or at given arrays.

        ``state`` is what `PooledStream.export` returned, in this or another process, or arrays as
        `PooledStream.state` has them. Bytes are not trusted: unless they are complete and come from
        a model with this configuration and these weights, ValueError is raised.

        Raises
        ------
        RuntimeError
            When all places are taken, and none by a stream that is idle for ``max_idle`` seconds.
        """
        row = None if state is None else self._row("open", state)
        number = self._slots.open(row)
        while number < 0 and self._max_idle is not None and self._slots.evict(self._max_idle, 1):
            number = self._slots.open(row)
        if number < 0:
            idle = "" if self._max_idle is None else f", none idle for {self._max_idle} seconds"
            raise RuntimeError(
                f"{_FUNCTION}.open: all {self._capacity} streams are open{idle}, expected a free "
                "place: close or evict streams, or make a pool of more capacity"
            )
        return PooledStream(self, number)

    def stream(self, id: int) -> PooledStream:
        """Return the open stream with this id. Raises ValueError where there is none."""
        return PooledStream(self, self._open_id("stream", id))

    @overload
    def step(self, ids: Mapping[PooledStream, Any]) -> dict[PooledStream, Any]: ...
    @overload
    def step(self, ids: ArrayLike, frames: ArrayLike) -> Any: ...
    def step(self, ids: Any, frames: Any = None) -> Any:
        """Take several streams further, in one native call.

        Parameters
        ----------
        ids
            Streams or their ids, N of them in any order, each once: a sequence or an integer array.
            Or, alone, a dict from streams (or ids) to frames.
        frames
            An array [N, I], a frame for each stream, or [N, T, I], a chunk of T frames for each. Or
            a list of N arrays, each of them [I] or [T_i, I].

        Returns
        -------
        y [N, H] or [N, T, H]; for a list a list of N arrays [H] or [T_i, H], for a dict a dict.

        Raises
        ------
        ValueError
            For a stream that is not open or occurs twice, and for shapes that do not fit; no state
            has changed then.
        TypeError
            For another dtype.
        """
        if frames is None:
            if not isinstance(ids, Mapping):
                raise TypeError(
                    f"{_FUNCTION}.step: frames are None, expected frames, or a dict of streams and "
                    "their frames alone"
                )
            keys = list(ids)
            results = self._several(_numbers(keys), list(ids.values()))
            return dict(zip(keys, results, strict=True))
        numbers = _numbers(ids)
        if isinstance(frames, list | tuple):
            return self._several(numbers, frames)
        return self._native.step(numbers, frames)

    def evict(self, idle: float) -> int:
        """Close the streams that have not been used for ``idle`` seconds; return how many.

        A stream that is in a call at this moment is not idle.
        """
        seconds = number(f"{_FUNCTION}.evict", "idle", idle, least=0)
        return self._slots.evict(seconds, self._capacity)

    def stats(self) -> dict[str, int]:
        """Return numbers about the pool.

        ``capacity``, and how many streams are ``open``; how many have been ``opened``, ``closed``
        and, among these, ``evicted`` so far; the ``calls`` of `step` and `PooledStream.push` that
        have succeeded, the ``rows`` of these calls (a stream in a call is a row) and their
        ``frames``; and the ``state_bytes`` of one stream.
        """
        return self._slots.statistics()

    # -- states -----------------------------------------------------------------------------------

    def _row(self, name: str, state: Any) -> Any:
        """Return a state as a row of the slots."""
        function = f"{_FUNCTION}.{name}"
        if isinstance(state, bytes | bytearray | memoryview):
            engine = self._engine
            return engine.layout.parse(function, bytes(state), engine.fingerprint(), repr(engine))
        parts = self._engine.given(function, state)
        return self._engine.layout.joined({k: v[None] for k, v in parts.items()}, 1)[0]

    def _state(self, id: int) -> Float:
        held = _core.HeldStreams(self._slots, np.array([id], np.int64))
        try:
            state: Float = held.get()[0]
            return state
        finally:
            held.release()

    def _shown(self, id: int) -> Any:
        parts = self._engine.layout.split(self._state(id)[None])
        return self._engine.shown({name: part[0] for name, part in parts.items()})

    def _assign(self, id: int, state: Any) -> None:
        width = self._engine.layout.width
        row = np.zeros(width, np.float32) if state is None else self._row("state", state)
        held = _core.HeldStreams(self._slots, np.array([id], np.int64))
        try:
            held.set(row[None])
        finally:
            held.release()

    def _exported(self, id: int) -> bytes:
        data: bytes = self._engine.layout.serialize(self._state(id), self._engine.fingerprint())
        return data

    # -- calls ------------------------------------------------------------------------------------

    def _several(self, ids: Int, frames: Sequence[ArrayLike]) -> list[Any]:
        if len(frames) != len(ids):
            raise ValueError(
                f"{_FUNCTION}: frames has {len(frames)} items, expected one for each of the "
                f"{len(ids)} streams"
            )
        results: list[Any] = self._engine.several(self._native, ids, frames)
        return results

    def _open_id(self, name: str, id: int) -> int:
        number = integer(f"{_FUNCTION}.{name}", "id", id, least=0, most=2**63 - 1)
        if not self._slots.is_open(number):
            raise ValueError(
                f"{_FUNCTION}.{name}: the stream with the id {number} is not open: it was closed "
                "or evicted, or the id is that of another pool"
            )
        return number

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError(
            "treadle.StreamPool: a pool cannot be pickled or copied; export its streams"
        )

    def __repr__(self) -> str:
        return f"StreamPool({self._engine!r}, capacity={self._capacity})"


def _engine(model: Any, options: dict[str, Any]) -> Any:
    """Return what a pool needs of its model, which makes it itself where it is no single layer."""
    pooled = getattr(type(model), "_pooled", None)
    if pooled is not None and not isinstance(model, Module):
        return pooled(model, _FUNCTION, **options)
    for name, value in options.items():
        if value is not None:
            raise ValueError(f"{_FUNCTION}: {name} is given, expected None but for a treadle.Model")
    if isinstance(model, RecurrentBase):
        return PooledRecurrent(_FUNCTION, model)
    if pooled is not None:
        return pooled(model, _FUNCTION)
    raise TypeError(
        f"{_FUNCTION}: model is of type {type(model).__name__}, expected a treadle.RNN, "
        "treadle.LSTM, treadle.GRU, a cell, a treadle.Sequential or a treadle.Model"
    )


def _numbers(ids: Any) -> Int:
    """Return streams or ids as an array of ids."""
    if type(ids) is np.ndarray and ids.dtype == np.int64 and ids.flags.c_contiguous:
        return ids
    if isinstance(ids, list | tuple) and any(isinstance(one, PooledStream) for one in ids):
        ids = [index(one) if isinstance(one, PooledStream) else one for one in ids]
    return to_int64(_FUNCTION, "ids", ids, _fits_ids)


def _fits_ids(ids: AnyArray) -> None:
    if ids.ndim != 1:
        raise ValueError(f"{_FUNCTION}: ids has shape {ids.shape}, expected [N]")

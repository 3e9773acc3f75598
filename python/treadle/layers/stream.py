"""Streams: a recurrent layer or cell that carries its state from call to call."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from treadle._inputs.arrays import to_dense, to_float32, to_pair, to_rows
from treadle._inputs.checks import fits, integer, shape
from treadle._public import published
from treadle.layers.build import configuration
from treadle.layers.recurrent_base import RecurrentBase

if TYPE_CHECKING:
    from treadle._inputs.types import AnyArray, ArrayLike, Float
    from treadle.layers.module import Module

    class _Step(Protocol):
        def __call__(self, x: ArrayLike, out: Float | None = None) -> Float: ...

    class _Run(Protocol):
        def __call__(self, x: ArrayLike) -> Float: ...


FORMAT = "treadle.stream/1"


@published("treadle")
class Stream:
    """A recurrent layer or cell and a carried state for B independent rows: ``module.stream(B)``.

    ``step`` and ``run`` are the native methods themselves. The state is updated in place and every
    buffer exists from the start, so that a step allocates its result only, and with ``out``
    nothing. A sequence has the same results, bit for bit, step by step, in chunks and as a whole. A
    stream keeps the weights that the module had when it was made, also after ``load_state_dict``.
    One stream serves one thread at a time; different streams of one module are independent.

    Shapes, in the letters T time, B batch, I input, H hidden (P where the layer projects), L
    layers; arrays are float32:

    ``step(x, out=None)``
        one time step: x [B, I] -> y [B, H], written to ``out`` when that is given
    ``run(x)``
        a chunk of steps: x [T, B, I] -> y [T, B, H]

    Both raise ValueError for a shape that does not fit and TypeError for another dtype; the state
    is unchanged then.

    Examples
    --------
    >>> import numpy as np, treadle
    >>> gru = treadle.GRU(2, 4, seed=0)
    >>> s = gru.stream(batch_size=3)
    >>> x = np.ones((5, 3, 2), np.float32)
    >>> one = s.step(x[0])
    >>> rest = s.run(x[1:])
    >>> bool(np.all(rest[-1] == gru(x)[1]))
    True
    >>> s.reset(rows=[1])
    >>> bool(np.all(s.state[:, 1] == 0))
    True
    """

    __slots__ = {  # noqa: RUF023 - in the order of use
        "step": "step(x, out=None): one time step, x [B, I] -> y [B, H], float32.",
        "run": "run(x): a chunk of time steps, x [T, B, I] -> y [T, B, H], float32.",
        "_axis": None,  # True if states have the axis L, which those of cells lack
        "_batch_size": None,
        "_function": None,
        "_module": None,
        "_native": None,
        "_packed": None,
    }
    step: _Step
    run: _Run

    def __init__(self, module: Module, batch_size: int = 1) -> None:
        if not isinstance(module, RecurrentBase):
            raise TypeError(
                f"treadle.Stream: module is of type {type(module).__name__}, "
                "expected a treadle.RNN, treadle.LSTM, treadle.GRU or a cell"
            )
        self._function = f"{module._function}.stream"
        self._batch_size = integer(self._function, "batch_size", batch_size)
        direction = module._spec.direction
        if direction != "forward":
            raise ValueError(f"{self._function}: the layer has {direction}=True, expected False")
        self._module = module
        self._axis = bool(module._sizes.states)
        self._packed = module._packed
        self._native = self._packed.native.stream(
            self._batch_size, to_float32=partial(_to_x, self._batch_size, module.input_size)
        )
        self.step = self._native.step
        self.run = self._native.run

    @property
    def batch_size(self) -> int:
        """The number of independent rows B."""
        return self._batch_size

    @property
    def state(self) -> Any:
        """A copy of the state: h [L, B, H], of a cell [B, H]; or (h, c) of an LSTM. Assignment
        replaces it.

        Assigning raises ValueError for shapes that do not fit and TypeError for another dtype; the
        state is unchanged then.
        """
        h, c = self._native.get_state()
        if not self._axis:
            h, c = h[0], None if c is None else c[0]
        return h if c is None else (h, c)

    @state.setter
    def state(self, value: ArrayLike) -> None:
        h, c = self._to_state("state", value)
        self._native.set_state(h, c)

    def reset(self, rows: ArrayLike | None = None, state: ArrayLike | None = None) -> None:
        """Set the states of all rows, or of ``rows``, to zero or to their part of ``state``.

        ``rows`` is an integer, a sequence of integers in 0..B-1, or bool [B]; ``state`` has the
        shape of the property.

        Raises
        ------
        ValueError, TypeError
            As assigning to the property does.
        """
        chosen = None if rows is None else to_rows(self._function, "rows", rows, self._fits_rows)
        h, c = (None, None) if state is None else self._to_state("state", state)
        self._native.reset(chosen, h, c)

    def export_state(self) -> bytes:
        """Return the state as bytes, to be stored and given to ``import_state`` later or elsewhere.

        The format is safetensors, with a fingerprint of the module in its metadata.
        """
        from treadle._storage import safetensors

        h, c = self._native.get_state()
        arrays = {"h": h} if c is None else {"h": h, "c": c}
        return safetensors.serialize(arrays, FORMAT, {"fingerprint": self._fingerprint()})

    def import_state(self, data: bytes) -> None:
        """Take over a state exported from a stream of the same module and batch size.

        The bytes are not trusted. Unless they are complete and come from a module with this
        configuration and these weights, ValueError is raised and the stream stays as it is. An
        argument that is not bytes raises TypeError.

        Examples
        --------
        >>> import numpy as np, treadle
        >>> lstm = treadle.LSTM(2, 4, seed=0)
        >>> a, b = lstm.stream(), lstm.stream()
        >>> y = a.step(np.ones((1, 2), np.float32))
        >>> b.import_state(a.export_state())
        >>> bool(np.all(b.state[1] == a.state[1]))
        True
        """
        import io

        from treadle._storage import safetensors

        function = f"{self._function}.import_state"
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"{function}: data is of type {type(data).__name__}, expected bytes")
        content = bytes(data)
        file = io.BytesIO(content)
        header = safetensors.read_header(file, len(content), f"{function}: data")
        about = safetensors.read_about(header, FORMAT, ("fingerprint",))
        if about["fingerprint"] != self._fingerprint():
            raise ValueError(
                f"{function}: data was exported from a module with another configuration or other "
                f"weights, expected a state of {self._module!r} with the weights of this stream"
            )
        h, c = self._native.get_state()
        layout = {"h": ("float32", h.shape)}
        if c is not None:
            layout["c"] = ("float32", c.shape)
        safetensors.check_tensors(header, layout)
        self._native.set_state(
            safetensors.read(file, header, "h"),
            None if c is None else safetensors.read(file, header, "c"),
        )

    def _fingerprint(self) -> str:
        return self._packed.fingerprint(configuration(self._module))

    def _to_state(self, name: str, value: ArrayLike) -> tuple[Float, Float | None]:
        """Convert a state to (h [L, B, H], c or None)."""

        def part(value: ArrayLike, size: int) -> Float:
            layers = (self._module.num_layers,) if self._axis else ()
            expected = (*layers, self._batch_size, size)
            of_part = fits(self._function, name, expected, "LBH"[1 - len(layers) :])
            array = to_dense(self._function, name, value, of_part)
            return array if self._axis else array[None]

        hidden, projection = self._module.hidden_size, getattr(self._module, "proj_size", 0)
        if self._module.mode != "lstm":
            return part(value, hidden), None
        h, c = to_pair(self._function, name, value)
        return part(h, projection or hidden), part(c, hidden)

    def _fits_rows(self, rows: AnyArray) -> None:
        if rows.ndim > 1 or rows.size > self._batch_size:
            raise ValueError(
                f"{self._function}: rows has shape {rows.shape}, expected [N] with N at most "
                f"B = {self._batch_size}"
            )

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("treadle.Stream: a stream cannot be pickled or copied; use export_state")

    def __repr__(self) -> str:
        return f"Stream({self._module!r}, batch_size={self._batch_size})"


class Streaming(RecurrentBase):
    """The base of the recurrent layers and cells, of which streams can be made."""

    def stream(self, batch_size: int = 1) -> Stream:
        """Make a `treadle.Stream`: this layer with a state of ``batch_size`` independent rows.

        Raises
        ------
        ValueError
            For a bidirectional or reverse layer: its output needs the future.
        """
        return Stream(self, batch_size)


def _to_x(batch: int, inputs: int, function: str, name: str, value: ArrayLike) -> Float:
    """Convert the x of a step [B, I] or of a chunk [T, B, I] that is no dense array of float32."""

    def fits_x(x: AnyArray) -> None:
        if x.ndim == 3:
            shape(function, name, x, (None, batch, inputs), "TBI")
        else:
            shape(function, name, x, (batch, inputs), "BI")

    return to_float32(function, name, value, fits_x)

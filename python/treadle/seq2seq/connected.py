"""The base of Seq2Seq: an encoder, a decoder, and the products that connect them, as one module."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from treadle._inputs import checks
from treadle._inputs.arrays import to_float32, to_int64
from treadle.layers.build import blueprint
from treadle.layers.composite import Composite
from treadle.layers.linear import Linear
from treadle.layers.parts import chosen
from treadle.seq2seq.decoding import Decoding
from treadle.seq2seq.memory import MemoryAttention
from treadle.seq2seq.sizes import Connection, connected
from treadle.seq2seq.state import blank, bridged, carried, summary
from treadle.seq2seq.structure import DecoderLayers, EncoderLayers, positions

if TYPE_CHECKING:
    from typing_extensions import Self

    from treadle._inputs.types import ArrayLike, Float, Int
    from treadle.layers.composite import Children
    from treadle.layers.module import Module
    from treadle.seq2seq.state import State


class Connected(Composite):
    """An encoder (or none), a decoder, and linear layers between them, which follow from both."""

    _own: tuple[tuple[str, Linear], ...]
    _encoder: EncoderLayers | None
    _decoder: DecoderLayers
    _connection: Connection
    _derived = Composite._derived | {"_connection", "_decoder", "_encoder", "_own"}

    def _check_configuration(self) -> None:
        own, function = self._configuration, self._function
        encoder = own["encoder"]
        layers = None if encoder is None else EncoderLayers(function, encoder)
        decoder = DecoderLayers(function, own["decoder"])
        connection = connected(function, own, layers, decoder)
        names = list(connection.products)
        dtypes = chosen(function, own["dtype"], names, ["float32"] * len(names))
        dtypes = [checks.dtype(function, "dtype", one) for one in dtypes]
        if len(set(dtypes)) > 1:
            own["dtype"] = dict(zip(names, dtypes, strict=True))
        elif dtypes:
            own["dtype"] = dtypes[0]
        elif not isinstance(own["dtype"], str):
            own["dtype"] = "float32"
        self.__dict__.update(
            _encoder=layers,
            _decoder=decoder,
            _connection=connection,
            _own=tuple(
                (name, blueprint(Linear, arguments | {"dtype": dtype}))
                for (name, arguments), dtype in zip(
                    connection.products.items(), dtypes, strict=True
                )
            ),
        )
        super()._check_configuration()

    @property
    def _children(self) -> Children:
        own = self._configuration
        encoder, decoder = own.get("encoder"), own.get("decoder")
        parts: list[tuple[str, Module]] = [] if encoder is None else [("encoder", encoder)]
        parts += [] if decoder is None else [("decoder", decoder)]
        return (*parts, *self.__dict__.get("_own", ()))

    def _choice(self, function: str, dtype: Any, keep: Any) -> dict[str, Any]:
        choices = dict(zip(self._parts(), super()._choice(function, dtype, keep), strict=True))
        return {
            name: child.dtype if choices[name] is None else choices[name]
            for name, child in self._own
        } | {name: choices.get(name) for name in ("encoder", "decoder")}

    # -- the beginning of a decoding ------------------------------------------------------------

    def _begun(self, x: ArrayLike, lengths: ArrayLike | None) -> Decoding:
        """Let the encoder read x, and return the decoding that begins with it."""
        function, own = self._function, self._configuration
        ends = None if lengths is None else to_int64(function, "lengths", lengths)
        if self._encoder is None:
            memory, final = positions(to_float32(function, "x", x)), None
        else:
            memory, final = self._encoder.run(x, ends)
        self._check_memory(memory)
        B, S = memory.shape[0], memory.shape[1] if memory.ndim == 3 else 1
        if ends is None:
            ends = np.full(B, S, np.int64)
        elif ends.shape != (B,) or (ends < 0).any() or (ends > S).any():
            raise ValueError(
                f"{function}: lengths are {checks.shown(ends.tolist())}, expected [B] of 0 to S "
                f"with B = {B}, S = {S}"
            )
        look = None
        if own["attention"] is not None:
            size = self._connection.memory or 0
            attention = MemoryAttention(function, own["attention"], size, dict(self._own))
            look = attention, attention.remember(memory, ends)
        return Decoding(
            self._decoder, self._first(memory, ends, final), look, self._connection.feeds
        )

    def _first(self, memory: Float, lengths: Int, final: Any) -> State:
        """Return the decoder's first state."""
        recurrent, last = self._decoder.recurrent, self._encoder and self._encoder.last
        directions = last._spec.directions if last else 1
        if self._configuration["bridge"]:
            initial: Any = dict(self._own)["initial_state"]
            return bridged(recurrent, initial(summary(memory, lengths, final, directions)))
        if final is None:
            return blank(recurrent, len(memory))
        return carried(recurrent, final, directions)

    def _check_memory(self, memory: Float) -> None:
        """Check the shape of what the encoder has read."""
        size = self._connection.memory
        plain = self._encoder is None or self._encoder.last is None
        axes = (2, 3) if plain and self._configuration["attention"] is None else (3,)
        if memory.ndim not in axes or size not in (None, memory.shape[-1]):
            of = "x" if self._encoder is None else "the encoder's output"
            letters = "[B, S, M] or [B, M]" if 2 in axes else "[B, S, M]"
            known = "" if size is None else f" with M = {size}"
            raise ValueError(
                f"{self._function}: {of} has shape {memory.shape}, expected {letters}{known}"
            )

    # -- copies -----------------------------------------------------------------------------------

    def __copy__(self) -> Self:
        other = type(self).__new__(type(self))
        state = self.__getstate__()
        configuration = {
            k: copy.copy(v) if k in ("encoder", "decoder") else v
            for k, v in state["configuration"].items()
        }
        own = {name: copy.copy(product) for name, product in state["own"].items()}
        other.__setstate__(state | {"configuration": configuration, "own": own})
        return other

    def __getstate__(self) -> dict[str, Any]:
        attributes = {k: v for k, v in self.__dict__.items() if k not in self._derived}
        return {
            "configuration": self._configuration,
            "own": dict(self._own),
            "attributes": attributes,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._configure(state["configuration"])
        given = state["own"]
        if {k: repr(v) for k, v in given.items()} != {k: repr(v) for k, v in self._own}:
            raise ValueError(
                f"{self._function}: a copy has the products {checks.shown(given)}, "
                f"expected {dict(self._own)}"
            )
        self.__dict__["_own"] = tuple(given.items())
        self.__dict__.update(state["attributes"])

"""The base class of RNN, LSTM and GRU: layers on each other, each of which can have its dtype."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from treadle._inputs import checks
from treadle._storage.formats import stored_as
from treadle.layers.configuration import Flag, Integer
from treadle.layers.parts import Dtypes, Parted, chosen, kept
from treadle.layers.stream import Streaming

if TYPE_CHECKING:
    from treadle.layers.configuration import Entries


class Recurrent(Streaming, Parted):
    """The base of RNN, LSTM and GRU: L layers in one or both directions over whole sequences."""

    _entries: ClassVar[Entries] = {
        **Streaming._entries,
        "num_layers": Integer(most=checks.MAX_LAYERS),
        "batch_first": Flag(),
        "bidirectional": Flag(),
        "reverse": Flag(sparse=True),
        "dtype": Dtypes(),
    }

    def _check_configuration(self) -> None:
        own = self._configuration
        if not isinstance(own["dtype"], str):
            dtypes = self._dtypes(self._function, own["dtype"], ["float32"] * own["num_layers"])
            own["dtype"] = dtypes[0] if len(set(dtypes)) == 1 else tuple(dtypes)
        super()._check_configuration()

    def _parts(self) -> list[str]:
        return [f"layer{i}" for i in range(self._configuration["num_layers"])]

    def _dtypes(self, function: str, dtype: Any, otherwise: list[str]) -> list[str]:
        """Return the dtype of each layer by a choice of `treadle.layers.parts`."""
        found = chosen(function, dtype, self._parts(), otherwise)
        return [checks.dtype(function, "dtype", one) for one in found]

    def _choice(self, function: str, dtype: Any, keep: Any) -> tuple[str, ...]:
        own, layers = self._configuration["dtype"], self._configuration["num_layers"]
        present = [own] * layers if isinstance(own, str) else list(own)
        wanted = self._dtypes(function, dtype, present)
        stays = kept(function, keep, self._parts())
        return tuple(present[i] if stays[i] else wanted[i] for i in range(layers))

    def _layer_of(self, name: str) -> int:
        """Return the number of the layer that a parameter belongs to."""
        return int(name.partition("_l")[2].partition("_")[0])

    def _stored_as(self, name: str, shape: tuple[int, ...]) -> str:
        own = self._configuration["dtype"]
        return stored_as(shape, own if isinstance(own, str) else own[self._layer_of(name)])

    def _isa(self, name: str, value: Any) -> str | None:
        isas: list[str] = self._packed.native.isas
        return isas[self._layer_of(name)] if len(value.shape) == 2 else None

    def _suffixes(self) -> list[tuple[int, str]]:
        ends = ("", "_reverse")[: self._spec.directions]
        layers = range(self._configuration["num_layers"])
        return [(number, f"_l{number}{end}") for number in layers for end in ends]

"""The base class of RNN, LSTM and GRU and of their cells: configuration, parameters, packing."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

from treadle._inputs.sequence import Sizes
from treadle.layers.configuration import Dtype, Flag, Integer, Nonlinearity, Number
from treadle.layers.module import Module
from treadle.layers.recurrent_spec import RecurrentSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from treadle import _core
    from treadle.layers.build import Shapes
    from treadle.layers.configuration import Entries

GATE_ENTRIES: Entries = {
    "activation": Nonlinearity(),
    "recurrent_activation": Nonlinearity(),
}
LSTM_ENTRIES: Entries = {
    **GATE_ENTRIES,
    "output_activation": Nonlinearity(optional=True, sparse=True),
    "use_peepholes": Flag(sparse=True),
    "input_forget": Flag(sparse=True),
}
GRU_ENTRIES: Entries = {**GATE_ENTRIES, "reset_after": Flag()}


class RecurrentBase(Module):
    """L layers in D directions; a cell is one layer in one direction."""

    mode: ClassVar[str]
    _sizes: Sizes
    _spec: RecurrentSpec
    _derived = Module._derived | {"_sizes", "_spec"}
    _entries: ClassVar[Entries] = {
        "input_size": Integer(),
        "hidden_size": Integer(),
        "bias": Flag(),
        "dtype": Dtype(),
        "clip": Number(above=0, optional=True, sparse=True),
    }

    def _suffixes(self) -> list[tuple[int, str]]:
        """Return (layer, end of its parameters' names) for each direction: _l0, _l0_reverse, ..."""
        raise NotImplementedError

    def _check_configuration(self) -> None:
        own, function = self._configuration, self._function
        hidden, projection = own["hidden_size"], own.get("proj_size", 0)
        if projection >= hidden:
            raise ValueError(
                f"{function}: proj_size is {projection}, expected less than hidden_size = {hidden}"
            )
        reverse, both = own.get("reverse", False), own.get("bidirectional", False)
        if reverse and both:
            raise ValueError(
                f"{function}: reverse is True with bidirectional=True, expected one of them"
            )
        spec = self.__dict__["_spec"] = RecurrentSpec(
            self.mode,
            own["input_size"],
            hidden,
            projection,
            own.get("num_layers", 1),
            "bidirectional" if both else "reverse" if reverse else "forward",
            bias=own["bias"],
            peepholes=own.get("use_peepholes", False),
            activation=own.get("activation", own.get("nonlinearity")),
            recurrent_activation=own.get("recurrent_activation", "sigmoid"),
            output_activation=own.get("output_activation"),
            clip=own["clip"],
            input_forget=own.get("input_forget", False),
            reset_after=own.get("reset_after", True),
            dtype=own["dtype"],
        )
        super()._check_configuration()
        self.__dict__["_sizes"] = Sizes(
            function,
            spec.input_size,
            spec.state_size,
            hidden,
            spec.directions * spec.num_layers if "num_layers" in own else 0,
            own.get("batch_first", False),
        )

    def _count(self) -> tuple[int, int]:
        spec = self._spec
        first, others = spec.shapes(), spec.shapes(1)
        elements = sum(map(prod, first.values()))
        elements += (spec.num_layers - 1) * sum(map(prod, others.values()))
        return spec.directions * spec.num_layers * len(first), spec.directions * elements

    def _shapes(self) -> Shapes:
        first, others = self._spec.shapes(), self._spec.shapes(1)
        return {
            name + suffix: shape
            for number, suffix in self._suffixes()
            for name, shape in (others if number else first).items()
        }

    def _initial(self, name: str, shape: tuple[int, ...]) -> tuple[float, float]:
        return 0.0, self._configuration["hidden_size"] ** -0.5  # as in PyTorch

    def _pack(self, parameters: Mapping[str, Any]) -> _core.RecurrentStack:
        names = self._spec.shapes()
        weights = [{n: parameters[n + suffix] for n in names} for _, suffix in self._suffixes()]
        return self._spec.pack(self._function, weights)

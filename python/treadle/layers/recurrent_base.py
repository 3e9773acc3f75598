"""What RNN, LSTM and GRU are made of, in every form: gates, arrays, packing, options."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

from treadle import _core
from treadle._inputs.sequence import Sizes
from treadle.layers.activation import parse
from treadle.layers.configuration import Dtype, Flag, Integer
from treadle.layers.module import Module

if TYPE_CHECKING:
    from collections.abc import Mapping

    from treadle.layers.build import Shapes
    from treadle.layers.configuration import Entries

# G: PyTorch's order of the rows of a weight is (i, f, g, o) for LSTM and (r, z, n) for GRU.
GATES = {"rnn": 1, "gru": 3, "lstm": 4}
# The arrays of one layer and direction, in the order in which the native constructor takes them.
WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")


def options(
    function: str,
    *,
    activation: object = "tanh",
    recurrent_activation: object = "sigmoid",
    output_activation: object = None,
    clip: float = 0.0,
    input_forget: bool = False,
    reset_after: bool = True,
    dtype: str = "float32",
) -> dict[str, Any]:
    """The native options. ONNX's letters: f of the gates, g of the candidate, h of the output."""
    candidate = parse(function, "activation", activation)
    output = candidate
    if output_activation is not None:
        output = parse(function, "output_activation", output_activation)
    gate = parse(function, "recurrent_activation", recurrent_activation)
    return {
        "activations": {"f": gate, "g": candidate, "h": output},
        "clip": clip,
        "input_forget": input_forget,
        "reset_after": reset_after,
        "dtype": dtype,
    }


class RecurrentBase(Module):
    """L layers in D directions; a cell is one layer in one direction."""

    mode: ClassVar[str]
    _sizes: Sizes
    _derived = Module._derived | {"_sizes"}
    _entries: ClassVar[Entries] = {
        "input_size": Integer(),
        "hidden_size": Integer(),
        "bias": Flag(),
        "dtype": Dtype(),
    }

    def _suffixes(self) -> list[tuple[int, str]]:
        """The layer and the end of its names for each layer and direction: _l0, _l0_reverse, ..."""
        raise NotImplementedError

    def _check_configuration(self) -> None:
        own, function = self._configuration, self._function
        hidden, projection = own["hidden_size"], own.get("proj_size", 0)
        if projection >= hidden:
            raise ValueError(
                f"{function}: proj_size is {projection}, expected less than hidden_size = {hidden}"
            )
        super()._check_configuration()
        self.__dict__["_sizes"] = Sizes(
            function,
            own["input_size"],
            projection or hidden,
            hidden,
            self._directions * own["num_layers"] if "num_layers" in own else 0,
            own.get("batch_first", False),
        )

    @property
    def _directions(self) -> int:
        return 2 if self._configuration.get("bidirectional", False) else 1

    def _inputs(self) -> tuple[int, int]:
        """The input size of the first layer and that of the others."""
        own = self._configuration
        return own["input_size"], self._directions * (own.get("proj_size", 0) or own["hidden_size"])

    def _arrays(self, input_size: int) -> Shapes:
        """The arrays of one layer and direction."""
        own = self._configuration
        hidden, projection = own["hidden_size"], own.get("proj_size", 0)
        rows = GATES[self.mode] * hidden
        shapes: Shapes = {
            "weight_ih": (rows, input_size),
            "weight_hh": (rows, projection or hidden),
        }
        if own["bias"]:
            shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
        if projection:
            shapes["weight_hr"] = (projection, hidden)
        return shapes

    def _count(self) -> tuple[int, int]:
        first, others = (self._arrays(size) for size in self._inputs())
        layers = self._configuration.get("num_layers", 1)
        elements = sum(map(prod, first.values())) + (layers - 1) * sum(map(prod, others.values()))
        return self._directions * layers * len(first), self._directions * elements

    def _shapes(self) -> Shapes:
        first, others = self._inputs()
        return {
            name + suffix: shape
            for number, suffix in self._suffixes()
            for name, shape in self._arrays(others if number else first).items()
        }

    def _initial(self, name: str, shape: tuple[int, ...]) -> tuple[float, float]:
        return 0.0, self._configuration["hidden_size"] ** -0.5  # as in PyTorch

    def _pack(self, parameters: Mapping[str, Any]) -> _core.Recurrent:
        own = self._configuration
        weights = [
            (*(parameters.get(name + suffix) for name in WEIGHTS), None)
            for _, suffix in self._suffixes()
        ]
        return _core.Recurrent(
            self._function,
            self.mode,
            own["input_size"],
            own["hidden_size"],
            own.get("proj_size", 0),
            own.get("num_layers", 1),
            "bidirectional" if self._directions == 2 else "forward",
            weights,
            options(
                self._function,
                activation=own.get("activation", own.get("nonlinearity")),
                recurrent_activation=own.get("recurrent_activation", "sigmoid"),
                reset_after=own.get("reset_after", True),
                dtype=own["dtype"],
            ),
        )

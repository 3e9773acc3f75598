"""The kind "conv" times convolutions of images, on the layers of three known nets."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any, cast

from ...core.dtypes import Array
from ...core.kind import Peer, Prepared
from ...core.target import Result
from . import reference
from .case import ConvCase, ConvInputs
from .case import make_inputs as arguments
from .cases import grid, words
from .limits import buffer_sizes, bytes_read, flops, limit, target

__all__ = [
    "GROUPS",
    "NOTE",
    "PEERS",
    "UNIT",
    "absent",
    "answer",
    "arguments",
    "buffer_sizes",
    "bytes_read",
    "describe",
    "error",
    "expected",
    "flops",
    "grid",
    "limit",
    "low_precision",
    "measure_targets",
    "missing",
    "peer",
    "target",
    "words",
]

PEERS: tuple[str, ...] = ("torch", "onnxruntime", "openvino")
GROUPS = {
    "resnet": "Convolution: ResNet-18",
    "crnn": "Convolution: a CRNN, which reads a line of text",
    "mobilenet": "Convolution: the 1x1 of a MobileNet",
}
NOTE = (
    "`B x C x H x W - D - taps`: batch, channels and pixels in, channels out; `s2`: a stride of 2. "
    "Bias and relu are part of the call; arrays have the channels first. *Limit* is the least time "
    "that this machine would need for the multiply-adds, or for reading x and writing the result"
)
UNIT = "ms"


class Wanted:
    """A case and its reference answer."""

    def __init__(self, case: ConvCase, right: reference.Expected) -> None:
        self.case, self.reference = case, right

    @property
    def tolerance(self) -> float:
        """The largest error that is allowed."""
        return self.reference.tolerance


def missing() -> str:
    """Return an empty text: nothing is needed but treadle."""
    return ""


def low_precision() -> list[ConvCase]:
    """Return nothing: convolutions by themselves are timed in float32 only."""
    return []


def absent(case: ConvCase) -> str:
    """Return an empty text: where the kind can run, each of its cases can."""
    return ""


def describe() -> dict[str, Any]:
    """Return nothing: the cases say everything."""
    return {}


def expected(case: ConvCase, inputs: ConvInputs) -> Wanted:
    """Return the float64 answer for some outputs."""
    return Wanted(case, reference.expected(case, inputs))


def answer(case: ConvCase, prepared: Prepared[Array]) -> Array:
    """Return the answer of one call, [B, D, H', W']."""
    return prepared.outputs(prepared.run())


def error(want: Wanted, got: Array, prepared: Prepared[Array]) -> float:
    """Return the largest absolute difference."""
    return reference.worst_error(want.case, want.reference, got)


def measure_targets(result: dict[str, Any], dtype: str) -> Iterator[Result]:
    """Measure the targets that are no comparison of one case with the machine."""
    from . import targets

    return targets.run(result, dtype)


def peer(name: str) -> Peer[ConvCase, ConvInputs, Array]:
    """Import the module in `peers` of that name."""
    module = importlib.import_module(f".peers.{name}", __package__)
    return cast("Peer[ConvCase, ConvInputs, Array]", module)

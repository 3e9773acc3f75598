"""The weights of transformer layers: their names, their shapes, and the one way to pack them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from treadle import _core
from treadle.layers.projections import projection_shapes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from treadle._storage.formats import Stored
    from treadle.layers.build import Shapes


class TransformerShape(NamedTuple):
    """The configuration that all layers of a stack share; the core reads these names."""

    hidden: int
    """H"""
    num_heads: int
    feed_forward: int
    """F"""
    activation: tuple[str, float, float]
    """Its name and its two numbers, as `treadle.layers.activation.parse` returns them."""
    norm_first: bool
    eps: float
    """The norms add it to the variance."""
    dtype: str


def layer_shapes(hidden: int, feed_forward: int, bias: bool = True) -> Shapes:
    """Return the shapes of torch.nn.TransformerEncoderLayer's parameters, in its order."""
    attention = projection_shapes(hidden, hidden, hidden, bias)
    shapes: Shapes = {f"self_attn.{name}": shape for name, shape in attention.items()}
    for name, size in (
        ("linear1", (feed_forward, hidden)),
        ("linear2", (hidden, feed_forward)),
        ("norm1", (hidden,)),
        ("norm2", (hidden,)),
    ):
        shapes[f"{name}.weight"] = size
        if bias:
            shapes[f"{name}.bias"] = size[:1]
    return shapes


def pack_layers(
    function: str, shape: TransformerShape, layers: Iterable[Mapping[str, Stored]]
) -> _core.Encoder:
    """Pack an encoder from the weights of its layers, under the names of `layer_shapes`.

    Weights are packed as they come, so that a generator may read them into the same memory again.
    Biases and the arrays of a norm may be left out. Errors begin with the name ``function``.
    """
    options: dict[str, Any] = shape._asdict()
    encoder = _core.Encoder(function, **options)
    for weights in layers:
        encoder.add_layer(weights)
    return encoder

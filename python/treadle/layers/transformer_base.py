"""What a transformer's layer and a stack of them share: parameters, packing, ragged batches.

A batch becomes one list of the tokens that exist, [M, H], with the offset at which each sequence
begins. The native encoder runs all its layers over that list; padding is put back at the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from treadle import _core
from treadle._inputs import checks, masks
from treadle._inputs.arrays import starts, to_float32
from treadle.layers.activation import parse
from treadle.layers.attention import projection_shapes
from treadle.layers.module import Module

if TYPE_CHECKING:
    from collections.abc import Mapping

    from treadle._inputs.types import AnyArray, ArrayLike, Bool, Float
    from treadle.layers.build import Shapes

# The parameters of a layer in the order in which the native encoder takes them.
_ORDER = (
    "self_attn.in_proj_weight",
    "self_attn.in_proj_bias",
    "self_attn.out_proj.weight",
    "self_attn.out_proj.bias",
    "norm1.weight",
    "norm1.bias",
    "linear1.weight",
    "linear1.bias",
    "linear2.weight",
    "linear2.bias",
    "norm2.weight",
    "norm2.bias",
)


class Encoder(Module):
    """Layers of one configuration, one after the other."""

    def _layer(self) -> dict[str, Any]:
        """The configuration of each layer."""
        raise NotImplementedError

    def _prefixes(self) -> list[str]:
        """What the names of each layer's parameters begin with."""
        raise NotImplementedError

    @property
    def _dtype(self) -> str:
        dtype: str = self._layer()["dtype"]
        return dtype

    def _layer_shapes(self) -> Shapes:
        own = self._layer()
        hidden, forward, bias = own["d_model"], own["dim_feedforward"], own["bias"]
        attention = projection_shapes(hidden, hidden, hidden, bias)
        shapes: Shapes = {f"self_attn.{name}": shape for name, shape in attention.items()}
        for name, size in (
            ("linear1", (forward, hidden)),
            ("linear2", (hidden, forward)),
            ("norm1", (hidden,)),
            ("norm2", (hidden,)),
        ):
            shapes[f"{name}.weight"] = size
            if bias:
                shapes[f"{name}.bias"] = size[:1]
        return shapes

    def _pack(self, parameters: Mapping[str, Any]) -> _core.Encoder:
        own = self._layer()
        encoder = _core.Encoder(
            self._function,
            own["d_model"],
            own["nhead"],
            own["dim_feedforward"],
            parse(self._function, "activation", own["activation"]),
            own["norm_first"],
            own["layer_norm_eps"],
            own["dtype"],
        )
        for prefix in self._prefixes():
            weights: list[Any] = [parameters.get(prefix + name) for name in _ORDER]
            encoder.add_layer(*weights)
        return encoder

    def _run(
        self,
        src: ArrayLike,
        mask_name: str,
        mask: ArrayLike | None,
        padding: ArrayLike | None,
        is_causal: bool,
    ) -> Float:
        function, own, packed = self._function, self._layer(), self._packed
        checks.flag(function, "is_causal", is_causal)
        x = to_float32(function, "src", src)
        first = own["batch_first"]
        letters = "SH" if x.ndim == 2 else "BSH" if first else "SBH"
        checks.shape(function, "src", x, (*[None] * (len(letters) - 1), own["d_model"]), letters)
        rows = x[None] if x.ndim == 2 else x if first else x.swapaxes(0, 1)
        batch, time, hidden = rows.shape
        exists, bias = masks.padding(
            function,
            "src_key_padding_mask",
            padding,
            (time,) if x.ndim == 2 else (batch, time),
            "S" if x.ndim == 2 else "BS",
        )
        scores = masks.attention(function, mask_name, mask, batch, own["nhead"], time, time)
        if bias is not None:
            scores = masks.merged(scores, bias[:, None, None])
        lengths = np.full(batch, time) if exists is None else exists.sum(axis=1)
        offsets = starts(lengths)
        if scores is not None and offsets[-1] == 0:
            scores = None  # of no token
        if scores is not None:
            scores = _shortened(scores, exists, int(lengths.max()))
            longest = scores.shape[-1]
            scores = np.broadcast_to(scores, (batch, own["nhead"], longest, longest))
        tokens = rows.reshape(batch * time, hidden) if exists is None else rows[exists]
        y = packed.native.run(
            function,
            np.ascontiguousarray(tokens),
            offsets,
            scores,
            is_causal,
            0,
            len(self._prefixes()),
            None,
        )
        y = self._after(y)
        if exists is None and (first or x.ndim == 2):
            return y.reshape(x.shape)
        result = np.zeros(x.shape, np.float32)
        target = result[None] if x.ndim == 2 else result if first else result.swapaxes(0, 1)
        if exists is None:
            target[:] = y.reshape(rows.shape)
        else:
            target[exists] = y
        return result

    def _after(self, y: Float) -> Float:
        """What follows the layers."""
        return y


def _shortened(scores: AnyArray, exists: Bool | None, longest: int) -> AnyArray:
    """A mask [.., .., S, S] without the rows and columns of padding."""
    if exists is None:
        return scores
    if masks.prefix_lengths(exists) is not None:
        return scores[..., :longest, :longest]
    order = np.argsort(~exists, axis=1, kind="stable")[:, None, :longest]  # tokens, then padding
    scores = np.broadcast_to(scores, (len(exists), *scores.shape[1:]))
    if scores.shape[-2] > 1:
        scores = np.take_along_axis(scores, order[..., None], axis=-2)
    return np.take_along_axis(scores, order[:, :, None], axis=-1)

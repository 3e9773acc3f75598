"""The common part of a transformer's layer and a stack of them: parameters, packing and calls.

A batch becomes one list of the tokens that exist, [M, H], with the offset at which each sequence
begins. The native encoder runs all its layers over that list; padding is put back at the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from treadle._inputs import checks, masks
from treadle._inputs.arrays import to_float32
from treadle._inputs.ragged import Ragged
from treadle.layers.activation import parse
from treadle.layers.module import Module
from treadle.layers.transformer_weights import TransformerShape, layer_shapes, pack_layers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from treadle import _core
    from treadle._inputs.types import AnyArray, ArrayLike, Float
    from treadle.layers.build import Shapes


class TransformerBase(Module):
    """Encoder layers of one configuration, one after the other."""

    def _layer(self) -> dict[str, Any]:
        """Return the configuration of each layer."""
        raise NotImplementedError

    def _prefixes(self) -> list[str]:
        """Return the prefix of each layer's parameter names."""
        raise NotImplementedError

    @property
    def _dtype(self) -> str:
        dtype: str = self._layer()["dtype"]
        return dtype

    def _layer_shapes(self) -> Shapes:
        own = self._layer()
        return layer_shapes(own["d_model"], own["dim_feedforward"], own["bias"])

    def _pack(self, parameters: Mapping[str, Any]) -> _core.Encoder:
        own = self._layer()
        shape = TransformerShape(
            hidden=own["d_model"],
            num_heads=own["nhead"],
            feed_forward=own["dim_feedforward"],
            activation=parse(self._function, "activation", own["activation"]),
            norm_first=own["norm_first"],
            eps=own["layer_norm_eps"],
            dtype=own["dtype"],
        )
        names = self._layer_shapes()
        layers = ({n: parameters[prefix + n] for n in names} for prefix in self._prefixes())
        return pack_layers(self._function, shape, layers)

    def _run(
        self,
        src: ArrayLike,
        mask_name: str,
        mask: ArrayLike | None,
        padding: ArrayLike | None,
        is_causal: bool,
    ) -> Float:
        """Return the layers' output for src; errors call the mask ``mask_name``."""
        function, packed = self._function, self._packed
        checks.flag(function, "is_causal", is_causal)
        hidden, batch_first = self._layer()["d_model"], self._layer()["batch_first"]

        def fits(x: AnyArray) -> None:
            letters = "SH" if x.ndim == 2 else "BSH" if batch_first else "SBH"
            checks.shape(function, "src", x, (*[None] * (len(letters) - 1), hidden), letters)

        x = to_float32(function, "src", src, fits)
        rows = self._batch(x)
        places, scores = self._masks(rows, x.ndim == 3, mask_name, mask, padding)
        y = packed.native.run(
            function,
            np.ascontiguousarray(places.gather(rows)),
            places.offsets,
            mask=scores,
            is_causal=is_causal,
        )
        y = self._after(y)
        if places.exists is None and (batch_first or x.ndim == 2):
            return y.reshape(x.shape)
        result = np.empty(x.shape, np.float32)
        places.scatter(y, out=self._batch(result))
        return result

    def _batch(self, x: Float) -> Float:
        """Return a view [B, S, H] of an array in the layout of src."""
        if x.ndim == 2:
            return x[None]
        return x if self._layer()["batch_first"] else x.swapaxes(0, 1)

    def _masks(
        self,
        rows: Float,
        batched: bool,
        mask_name: str,
        mask: ArrayLike | None,
        padding: ArrayLike | None,
    ) -> tuple[Ragged, AnyArray | None]:
        """Return the tokens that exist in rows [B, S, H], and the mask of their scores or None."""
        function, heads = self._function, self._layer()["nhead"]
        batch, time = rows.shape[:2]
        shape, letters = ((batch, time), "BS") if batched else ((time,), "S")
        exists, added = masks.padding(function, "src_key_padding_mask", padding, shape, letters)
        scores = masks.attention(function, mask_name, mask, batch, heads, time, time)
        if added is not None:
            scores = masks.merged(scores, added[:, None, None])
        places = Ragged.of(batch, time, exists)
        if scores is None or places.offsets[-1] == 0:
            return places, None
        scores = places.gather_square(scores)
        return places, np.broadcast_to(scores, (batch, heads, places.longest, places.longest))

    def _after(self, y: Float) -> Float:
        """Apply what follows the layers; by default nothing does."""
        return y

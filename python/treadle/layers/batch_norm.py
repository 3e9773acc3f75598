"""Batch normalization by statistics that training has found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from treadle._inputs import checks
from treadle._inputs.arrays import to_float32
from treadle.layers.configuration import Flag, Float32, Integer, Number
from treadle.layers.module import Module, layer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from treadle._inputs.types import AnyArray, ArrayLike, Float
    from treadle.layers.build import Shapes
    from treadle.layers.configuration import Entries


@layer
class BatchNorm1d(Module):
    """``torch.nn.BatchNorm1d`` in inference: (x - running_mean) / sqrt(running_var + eps) * weight
    + bias, for each channel; float32.

    The statistics are parameters here: they begin as zeros and ones, and a trained module's state
    dict has them. Scale and shift of a channel are computed in float64 when they are loaded, so
    that a call is a product and a sum. Without ``affine`` there is neither weight nor bias.
    ``seed`` is accepted as in every layer, but nothing is random.

    Shapes: x and y [B, C] or [B, C, T] with C = num_features, each parameter [C].

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong kind, value or shape.

    References
    ----------
    Ioffe and Szegedy, Batch normalization, arXiv:1502.03167.

    Examples
    --------
    >>> import treadle
    >>> treadle.BatchNorm1d(2, eps=0.0)([[1.0, 3.0]])
    array([[1., 3.]], dtype=float32)
    """

    _entries: ClassVar[Entries] = {
        "num_features": Integer(),
        "eps": Number(least=0),
        "affine": Flag(),
        "dtype": Float32(),
    }

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        dtype: Any = "float32",
        seed: Any = None,
    ) -> None:
        self._initialize(locals())

    def _shapes(self) -> Shapes:
        own = self._configuration
        names = [*(("weight", "bias") if own["affine"] else ()), "running_mean", "running_var"]
        return dict.fromkeys(names, (own["num_features"],))

    def _initial(self, name: str, shape: tuple[int, ...]) -> tuple[float, float]:
        return float(name in ("weight", "running_var")), 0.0

    def _passes_over(self, name: str) -> bool:
        return name == "num_batches_tracked"  # PyTorch's count of training steps

    def _natives(self) -> tuple[Any, ...]:
        return ()  # the layer has no product

    def _pack(self, parameters: Mapping[str, Float]) -> tuple[Float, Float]:
        """Return the scale and the shift of each channel, [C, 1]."""
        own = {name: value.astype(np.float64) for name, value in parameters.items()}
        with np.errstate(all="ignore"):
            deviation = np.sqrt(own["running_var"] + self._configuration["eps"])
            scale = own.get("weight", 1.0) / deviation
            shift = own.get("bias", 0.0) - own["running_mean"] * scale
            return scale.astype(np.float32)[:, None], shift.astype(np.float32)[:, None]

    def __call__(self, x: ArrayLike) -> Float:
        """Return the normalized x, a new array. Raises ValueError for a shape that does not fit,
        TypeError for another dtype than float32 and bfloat16.
        """
        x = to_float32(self._function, "x", x, self._fits)
        scale, shift = self._packed.native
        if x.ndim == 2:
            scale, shift = scale[:, 0], shift[:, 0]
        with np.errstate(all="ignore"):
            y: Float = x * scale
            y += shift
        return y

    def _fits(self, x: AnyArray) -> None:
        channels = self._configuration["num_features"]
        if x.ndim == 3:
            checks.shape(self._function, "x", x, (None, channels, None), "BCT")
        else:
            checks.shape(self._function, "x", x, (None, channels), "BC")

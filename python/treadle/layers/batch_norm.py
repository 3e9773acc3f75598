"""Batch normalization by statistics that training has found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from treadle import _core
from treadle._inputs import checks
from treadle._inputs.arrays import to_dense
from treadle._public import published
from treadle.layers.configuration import Flag, Float32, Integer, Number
from treadle.layers.module import Module, layer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from treadle._inputs.types import AnyArray, ArrayLike, Float
    from treadle.layers.build import Shapes
    from treadle.layers.configuration import Entries


def scale_and_shift(
    mean: Float, variance: Float, weight: Float | None, bias: Float | None, eps: float
) -> tuple[Float, Float]:
    """Return what a batch norm multiplies by and adds, for each channel, computed in float64."""
    with np.errstate(all="ignore"):
        scale = 1.0 / np.sqrt(variance.astype(np.float64) + eps)
        if weight is not None:
            scale = weight.astype(np.float64) / np.sqrt(variance.astype(np.float64) + eps)
        shift = (0.0 if bias is None else bias.astype(np.float64)) - mean.astype(np.float64) * scale
        return scale.astype(np.float32), shift.astype(np.float32)


def scaled(function: str, x: Float, scale: Float, shift: Float) -> Float:
    """Return x [B, C, ...] * scale + shift, by channel."""
    return _core.scale_channels(function, by_channel(x), scale, shift).reshape(x.shape)


def by_channel(x: Float) -> Float:
    """Return x [B, C, ...] as [B, C, P], P being 1 where there are no further axes."""
    pixels = int(np.prod(x.shape[2:], dtype=np.int64))
    return x.reshape(*x.shape[:2], pixels)


class _BatchNorm(Module):
    """The base of the batch norms, which differ in the shapes of x that they take."""

    _entries: ClassVar[Entries] = {
        "num_features": Integer(),
        "eps": Number(least=0),
        "affine": Flag(),
        "bias": Flag(sparse=True),
        "dtype": Float32(),
    }

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        bias: bool = True,
        dtype: Any = "float32",
        seed: Any = None,
    ) -> None:
        self._initialize(locals())

    def _shapes(self) -> Shapes:
        own = self._configuration
        affine = ("weight", "bias")[: own["affine"] * (1 + own["bias"])]
        names = [*affine, "running_mean", "running_var"]
        return dict.fromkeys(names, (own["num_features"],))

    def _initial(self, name: str, shape: tuple[int, ...]) -> tuple[float, float]:
        return float(name in ("weight", "running_var")), 0.0

    def _passes_over(self, name: str) -> bool:
        return name == "num_batches_tracked"  # PyTorch's count of training steps

    def _natives(self) -> tuple[Any, ...]:
        return ()  # the layer has no product

    def _pack(self, parameters: Mapping[str, Float]) -> tuple[Float, Float]:
        """Return the scale and the shift of each channel, [C]."""
        return scale_and_shift(
            parameters["running_mean"],
            parameters["running_var"],
            parameters.get("weight"),
            parameters.get("bias"),
            self._configuration["eps"],
        )

    def __call__(self, x: ArrayLike) -> Float:
        """Return the normalized x, a new array. Raises ValueError for a shape that does not fit,
        TypeError for another dtype than float32 and bfloat16.
        """
        x = to_dense(self._function, "x", x, self._fits)
        return scaled(self._function, x, *self._packed.native)

    def _fits(self, x: AnyArray) -> None:
        raise NotImplementedError


@published("treadle")
@layer
class BatchNorm1d(_BatchNorm):
    """``torch.nn.BatchNorm1d`` in inference: (x - running_mean) / sqrt(running_var + eps) * weight
    + bias, for each channel; float32.

    The statistics are parameters here: they begin as zeros and ones, and a trained module's state
    dict has them. Scale and shift of a channel are computed in float64 when they are loaded, so
    that a call is a product and a sum. Without ``affine`` there is neither weight nor bias, without
    ``bias`` only the weight.
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

    def _fits(self, x: AnyArray) -> None:
        channels = self._configuration["num_features"]
        if x.ndim == 3:
            checks.shape(self._function, "x", x, (None, channels, None), "BCT")
        else:
            checks.shape(self._function, "x", x, (None, channels), "BC")


@published("treadle")
@layer
class BatchNorm2d(_BatchNorm):
    """``torch.nn.BatchNorm2d`` in inference, over images: x and y [B, C, H, W] with
    C = num_features. Everything else is as in `BatchNorm1d`.

    Examples
    --------
    >>> import treadle
    >>> treadle.BatchNorm2d(1, eps=0.0)([[[[1.0, 3.0]]]])
    array([[[[1., 3.]]]], dtype=float32)
    """

    def _fits(self, x: AnyArray) -> None:
        channels = self._configuration["num_features"]
        checks.shape(self._function, "x", x, (None, channels, None, None), "BCHW")

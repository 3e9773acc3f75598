"""This module normalizes every channel of every sample by its own statistics, or by given ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from treadle._inputs import checks
from treadle._inputs.arrays import to_dense
from treadle._public import published
from treadle.layers.batch_norm import scale_and_shift, scaled
from treadle.layers.configuration import Flag, Float32, Integer, Number
from treadle.layers.group_norm import group_normed
from treadle.layers.module import Module, layer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from treadle._inputs.types import AnyArray, ArrayLike, Float
    from treadle.layers.build import Shapes
    from treadle.layers.configuration import Entries


class _InstanceNorm(Module):
    """The base of the instance norms, which differ in the shapes of x that they take."""

    _letters: ClassVar[str]
    _entries: ClassVar[Entries] = {
        "num_features": Integer(),
        "eps": Number(least=0),
        "affine": Flag(),
        "track_running_stats": Flag(),
        "bias": Flag(),
        "dtype": Float32(),
    }

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        *,
        affine: bool = False,
        track_running_stats: bool = False,
        bias: bool = True,
        dtype: Any = "float32",
        seed: Any = None,
    ) -> None:
        self._initialize(locals())

    def _shapes(self) -> Shapes:
        own = self._configuration
        names = ("weight", "bias")[: own["affine"] * (1 + own["bias"])]
        names += ("running_mean", "running_var") * own["track_running_stats"]
        return dict.fromkeys(names, (own["num_features"],))

    def _initial(self, name: str, shape: tuple[int, ...]) -> tuple[float, float]:
        return float(name in ("weight", "running_var")), 0.0

    def _passes_over(self, name: str) -> bool:
        # PyTorch's count of training steps
        return name == "num_batches_tracked" and bool(self._configuration["track_running_stats"])

    def _natives(self) -> tuple[Any, ...]:
        return ()  # the layer has no product

    def _pack(self, parameters: Mapping[str, Float]) -> tuple[Float | None, Float | None]:
        """Return weight and bias, or, where statistics are given, the scale and the shift of each
        channel, [C].
        """
        weight, bias = parameters.get("weight"), parameters.get("bias")
        if not self._configuration["track_running_stats"]:
            return weight, bias
        mean, variance = parameters["running_mean"], parameters["running_var"]
        return scale_and_shift(mean, variance, weight, bias, self._configuration["eps"])

    def __call__(self, x: ArrayLike) -> Float:
        """Return the normalized x, a new array. Raises ValueError for a shape that does not fit,
        TypeError for another dtype than float32 and bfloat16.
        """
        x = to_dense(self._function, "x", x, self._fits)
        own = self._configuration
        batch = x if x.ndim == len(self._letters) else x[None]
        if own["track_running_stats"]:
            y = scaled(self._function, batch, *self._packed.native)
        else:
            weight, bias = self._packed.native
            y = group_normed(self._function, batch, own["num_features"], weight, bias, own["eps"])
        return y.reshape(x.shape)

    def _fits(self, x: AnyArray) -> None:
        alone = x.ndim == len(self._letters) - 1
        letters = self._letters[alone:]
        sizes = [self._configuration["num_features"] if one == "C" else None for one in letters]
        checks.shape(self._function, "x", x, tuple(sizes), letters)


@published("treadle")
@layer
class InstanceNorm1d(_InstanceNorm):
    """``torch.nn.InstanceNorm1d``: (x - mean) / sqrt(variance + eps) * weight + bias; float32.

    Mean and variance (of the population) are those of each sample and channel over time. With
    ``track_running_stats`` they are the parameters running_mean and running_var, as in PyTorch's
    inference, and the layer computes what `treadle.BatchNorm1d` does. Weight and bias are there
    with ``affine`` alone, and a bias unless ``bias`` is False. ``seed`` is accepted as in every
    layer, but nothing is random: parameters begin as ones and zeros.

    Shapes: x and y [B, C, T] or [C, T] with C = num_features, each parameter [C].

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong kind, value or shape.

    References
    ----------
    Ulyanov, Vedaldi and Lempitsky, Instance normalization, arXiv:1607.08022.

    Examples
    --------
    >>> import treadle
    >>> treadle.InstanceNorm1d(1, eps=0.0)([[[1.0, 3.0]]])
    array([[[-1.,  1.]]], dtype=float32)
    """

    _letters = "BCT"


@published("treadle")
@layer
class InstanceNorm2d(_InstanceNorm):
    """``torch.nn.InstanceNorm2d``, over images: x and y [B, C, H, W] or [C, H, W] with
    C = num_features. Everything else is as in `InstanceNorm1d`.

    Examples
    --------
    >>> import treadle
    >>> treadle.InstanceNorm2d(1, eps=0.0)([[[1.0, 3.0], [3.0, 1.0]]])
    array([[[-1.,  1.],
            [ 1., -1.]]], dtype=float32)
    """

    _letters = "BCHW"

"""This module normalizes over all pixels and a group of channels of each sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from treadle import _core
from treadle._inputs import checks
from treadle._inputs.arrays import to_dense
from treadle._public import published
from treadle.layers.batch_norm import by_channel
from treadle.layers.configuration import Flag, Float32, Integer, Number
from treadle.layers.module import Module, layer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from treadle._inputs.types import AnyArray, ArrayLike, Float
    from treadle.layers.build import Shapes
    from treadle.layers.configuration import Entries


def group_normed(
    function: str, x: Float, groups: int, weight: Float | None, bias: Float | None, eps: float
) -> Float:
    """Return the norm of a contiguous x [B, C, ...]; C is a multiple of the groups."""
    return _core.group_norm(function, by_channel(x), groups, weight, bias, eps).reshape(x.shape)


def check_groups(function: str, groups: int, channels: int) -> None:
    """Raise ValueError unless the groups are a divisor of the channels."""
    if channels % groups:
        raise ValueError(
            f"{function}: num_groups is {groups}, expected a divisor of the channels, "
            f"C = {channels}"
        )


@published("treadle")
@layer
class GroupNorm(Module):
    """``torch.nn.GroupNorm``: (x - mean) / sqrt(variance + eps) * weight + bias; float32.

    Mean and variance (of the population) are those of each sample and group of
    num_channels / num_groups channels, over all further axes. With one group for each channel this
    is instance norm. ``seed`` is accepted as in every layer, but nothing is random: weight and bias
    begin as ones and zeros; without ``affine`` there is neither, without ``bias`` only the weight.

    Shapes: x and y [B, C, ...] with C = num_channels, each parameter [C].

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong kind, value or shape.

    References
    ----------
    Wu and He, Group normalization, arXiv:1803.08494.

    Examples
    --------
    >>> import treadle
    >>> treadle.GroupNorm(1, 2, eps=0.0)([[1.0, 3.0]])
    array([[-1.,  1.]], dtype=float32)
    """

    _entries: ClassVar[Entries] = {
        "num_groups": Integer(),
        "num_channels": Integer(),
        "eps": Number(least=0),
        "affine": Flag(),
        "bias": Flag(sparse=True),
        "dtype": Float32(),
    }

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        bias: bool = True,
        dtype: Any = "float32",
        seed: Any = None,
    ) -> None:
        self._initialize(locals())

    def _check_configuration(self) -> None:
        super()._check_configuration()
        own = self._configuration
        check_groups(self._function, own["num_groups"], own["num_channels"])

    def _shapes(self) -> Shapes:
        own = self._configuration
        names = ("weight", "bias")[: own["affine"] * (1 + own["bias"])]
        return dict.fromkeys(names, (own["num_channels"],))

    def _initial(self, name: str, shape: tuple[int, ...]) -> tuple[float, float]:
        return float(name == "weight"), 0.0

    def _natives(self) -> tuple[Any, ...]:
        return ()  # the layer has no product

    def _pack(self, parameters: Mapping[str, Float]) -> tuple[Float | None, Float | None]:
        return parameters.get("weight"), parameters.get("bias")

    def __call__(self, x: ArrayLike) -> Float:
        """Return the normalized x, a new array. Raises ValueError for a shape that does not fit,
        TypeError for another dtype than float32 and bfloat16.
        """
        x = to_dense(self._function, "x", x, self._fits)
        own = self._configuration
        weight, bias = self._packed.native
        return group_normed(self._function, x, own["num_groups"], weight, bias, own["eps"])

    def _fits(self, x: AnyArray) -> None:
        channels = self._configuration["num_channels"]
        rank = max(x.ndim, 2)
        sizes = (None, channels, *(None,) * (rank - 2))
        checks.shape(self._function, "x", x, sizes, ["B", "C", *["..."] * (rank - 2)])

"""Layer normalization as a module, which is the last layer of many encoders."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

from treadle import _core
from treadle._inputs import checks
from treadle._inputs.arrays import to_dense
from treadle._public import published
from treadle.layers.configuration import Flag, Float32, Number, Shape
from treadle.layers.module import Module, layer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from treadle._inputs.types import AnyArray, ArrayLike, Float
    from treadle.layers.build import Shapes
    from treadle.layers.configuration import Entries


@published("treadle")
@layer
class LayerNorm(Module):
    """``torch.nn.LayerNorm``: (x - mean) / sqrt(variance + eps) * weight + bias; float32.

    Mean and variance are those of the last axes of ``x [..., *normalized_shape]``; weight and bias
    have the normalized shape, and begin as ones and zeros. Without ``elementwise_affine`` the layer
    has neither, without ``bias`` it has only the weight. ``seed`` is accepted as in every layer,
    but nothing is random.

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong kind, value or shape.

    References
    ----------
    Ba, Kiros and Hinton, Layer normalization, arXiv:1607.06450.

    Examples
    --------
    >>> import treadle
    >>> treadle.LayerNorm(2)([[1.0, 3.0]]).round(3)
    array([[-1.,  1.]], dtype=float32)
    """

    _entries: ClassVar[Entries] = {
        "normalized_shape": Shape(),
        "eps": Number(least=0),
        "elementwise_affine": Flag(),
        "bias": Flag(),
        "dtype": Float32(),
    }

    def __init__(
        self,
        normalized_shape: int | Iterable[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        dtype: Any = "float32",
        seed: Any = None,
    ) -> None:
        self._initialize(locals())

    def _shapes(self) -> Shapes:
        own = self._configuration
        names = ("weight", "bias")[: own["elementwise_affine"] * (1 + own["bias"])]
        return dict.fromkeys(names, own["normalized_shape"])

    def _initial(self, name: str, shape: tuple[int, ...]) -> tuple[float, float]:
        return float(name == "weight"), 0.0

    def _pack(self, parameters: Mapping[str, Float]) -> None:
        return None  # the layer has no product

    def __call__(self, x: ArrayLike) -> Float:
        """Return the normalized x, a new array. Raises ValueError for a shape that does not
        end in the normalized one, TypeError for another dtype than float32.
        """
        own, parameters = self._configuration, self._packed.parameters
        return normalized(
            self._function,
            x,
            own["normalized_shape"],
            parameters.get("weight"),
            parameters.get("bias"),
            own["eps"],
        )


def normalized(
    function: str,
    x: ArrayLike,
    sizes: tuple[int, ...],
    weight: ArrayLike | None,
    bias: ArrayLike | None,
    eps: float,
    residual: ArrayLike | None = None,
) -> Float:
    """Compute `layer_norm` over a shape that has been checked; errors name ``function``."""

    def fits(x: AnyArray) -> None:
        if x.shape[max(x.ndim - len(sizes), 0) :] != sizes:
            expected = ", ".join(["...", *map(str, sizes)])
            raise ValueError(f"{function}: x has shape {x.shape}, expected [{expected}]")

    x = to_dense(function, "x", x, fits)
    arrays = {}
    for name, value, shape in (
        ("weight", weight, sizes),
        ("bias", bias, sizes),
        ("residual", residual, x.shape),
    ):
        if value is not None:
            arrays[name] = to_dense(function, name, value, checks.fits(function, name, shape))
    columns = math.prod(sizes)
    rows = math.prod(x.shape[: x.ndim - len(sizes)])
    flat = {name: a.reshape(-1) for name, a in arrays.items() if name != "residual"}
    more = arrays["residual"].reshape(rows, columns) if residual is not None else None
    y = _core.layer_norm(
        function, x.reshape(rows, columns), flat.get("weight"), flat.get("bias"), eps, more
    )
    return y.reshape(x.shape)

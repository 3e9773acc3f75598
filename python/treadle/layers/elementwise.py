"""Layers without parameters: softmax, and what only changes the shape of an array.

They stand between the other layers of a `treadle.Sequential`; names and arguments are PyTorch's.
All take and return float32. The functions of `treadle.functional` compute the same. The layers of
activations are in activation_layers.py.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from treadle import _core
from treadle._inputs import checks
from treadle._inputs.arrays import contiguous, to_dense, to_float32
from treadle._public import published
from treadle.layers.activation import parse
from treadle.layers.build import fill
from treadle.layers.configuration import Integer
from treadle.layers.module import Module, layer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from treadle._inputs.types import ArrayLike, Float
    from treadle.layers.activation import Activation
    from treadle.layers.build import Shapes
    from treadle.layers.configuration import Entries

_AXIS = Integer(least=-checks.MAX_RANK, most=checks.MAX_RANK - 1)


# -- functions that layers and treadle.functional share -------------------------------------------


def activated(function: str, x: ArrayLike, activation: Activation) -> Float:
    """Apply an activation to every number of x; errors name ``function``."""
    x = to_dense(function, "x", x)
    name, alpha, beta = parse(function, "activation", activation)
    return _core.apply(name, x.reshape(-1), alpha, beta).reshape(x.shape)


def along(
    kernel: Callable[[str, Float], Float], function: str, x: ArrayLike, dim: int | None
) -> Float:
    """Apply a native function of rows to the axis ``dim`` of x."""
    x = to_float32(function, "x", x)
    if x.ndim == 0:
        raise ValueError(f"{function}: x has shape (), expected at least one axis")
    axis = checks.integer(function, "dim", dim, least=-x.ndim, most=x.ndim - 1)
    turned = np.moveaxis(x, axis, -1)
    rows = math.prod(turned.shape[:-1])
    flat = contiguous(turned).reshape(rows, turned.shape[-1])
    y = kernel(function, flat).reshape(turned.shape)
    return contiguous(np.moveaxis(y, -1, axis))


# -- the layers -----------------------------------------------------------------------------------


class Elementwise(Module):
    """The base of the layers without parameters."""

    _entries: ClassVar[Entries] = {}

    def _initialize(self, arguments: Mapping[str, Any]) -> None:
        self._configure({k: v for k, v in arguments.items() if k != "self"})
        fill(self, {})

    @property
    def _dtype(self) -> str:
        return "float32"

    @property
    def dtype(self) -> str:
        """The dtype of the layer, which has no products: float32."""
        return self._dtype

    def _shapes(self) -> Shapes:
        return {}

    def _pack(self, parameters: Mapping[str, Any]) -> None:
        return None

    def __call__(self, x: ArrayLike) -> Float:
        """Return the result for x, float32, as an array of its own."""
        raise NotImplementedError


@published("treadle")
@layer
class Softmax(Elementwise):
    """``torch.nn.Softmax``: exp(x) / sum exp(x) over the axis ``dim``, the last one by default.

    Examples
    --------
    >>> import treadle
    >>> treadle.Softmax()([[0.0, 0.0]])
    array([[0.5, 0.5]], dtype=float32)
    """

    _entries: ClassVar[Entries] = {"dim": _AXIS}

    def __init__(self, dim: int = -1) -> None:
        self._initialize(locals())

    def __call__(self, x: ArrayLike) -> Float:
        return along(_core.softmax, self._function, x, self._configuration["dim"])


@published("treadle")
@layer
class LogSoftmax(Elementwise):
    """``torch.nn.LogSoftmax``: the logarithm of `Softmax`, without its underflow.

    Examples
    --------
    >>> import treadle
    >>> treadle.LogSoftmax()([[0.0, 1000.0]])
    array([[-1000.,     0.]], dtype=float32)
    """

    _entries: ClassVar[Entries] = {"dim": _AXIS}

    def __init__(self, dim: int = -1) -> None:
        self._initialize(locals())

    def __call__(self, x: ArrayLike) -> Float:
        return along(_core.log_softmax, self._function, x, self._configuration["dim"])


@published("treadle")
@layer
class Identity(Elementwise):
    """``torch.nn.Identity``: x itself. It stands where PyTorch's module has a dropout.

    Examples
    --------
    >>> import treadle
    >>> treadle.Identity()([1.0])
    array([1.], dtype=float32)
    """

    def __init__(self) -> None:
        self._initialize({})

    def __call__(self, x: ArrayLike) -> Float:
        return to_float32(self._function, "x", x)


@published("treadle")
@layer
class Flatten(Elementwise):
    """``torch.nn.Flatten``: the axes from start_dim to end_dim become one.

    Examples
    --------
    >>> import numpy as np, treadle
    >>> treadle.Flatten()(np.zeros((2, 3, 4), np.float32)).shape
    (2, 12)
    """

    _entries: ClassVar[Entries] = {"start_dim": _AXIS, "end_dim": _AXIS}

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self._initialize(locals())

    def __call__(self, x: ArrayLike) -> Float:
        own, function = self._configuration, self._function
        x = to_float32(function, "x", x)
        rank = max(x.ndim, 1)
        first, last = (
            checks.integer(function, f"x has {x.ndim} axes, and {k}", own[k], -rank, rank - 1)
            % rank
            for k in ("start_dim", "end_dim")
        )
        if first > last:
            raise ValueError(
                f"{function}: x has shape {x.shape}, expected start_dim = {own['start_dim']} "
                f"not to come after end_dim = {own['end_dim']}"
            )
        middle = math.prod(x.shape[first : last + 1])
        flat: Float = x.reshape(*x.shape[:first], middle, *x.shape[last + 1 :])
        return flat


@published("treadle")
@layer
class Transpose(Elementwise):
    """Two axes change places, as in ``torch.transpose``: from a Conv1d's [B, C, T] to a net over
    time with ``batch_first``, [B, T, C].

    Examples
    --------
    >>> import numpy as np, treadle
    >>> treadle.Transpose(1, 2)(np.zeros((2, 3, 4), np.float32)).shape
    (2, 4, 3)
    """

    _entries: ClassVar[Entries] = {"dim0": _AXIS, "dim1": _AXIS}

    def __init__(self, dim0: int, dim1: int) -> None:
        self._initialize(locals())

    def __call__(self, x: ArrayLike) -> Float:
        own, function = self._configuration, self._function
        x = to_float32(function, "x", x)
        if x.ndim == 0:
            raise ValueError(f"{function}: x has shape (), expected at least one axis")
        first, second = (
            checks.integer(function, f"x has {x.ndim} axes, and {k}", own[k], -x.ndim, x.ndim - 1)
            for k in ("dim0", "dim1")
        )
        turned: Float = x.swapaxes(first, second)
        return contiguous(turned)

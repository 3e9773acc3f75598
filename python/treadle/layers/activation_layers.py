"""The activations as layers, which stand between the others of a `treadle.Sequential`.

Names and arguments are PyTorch's, the formulas are in `treadle.layers.activation`. All take and
return float32 in any shape. The functions of `treadle.functional` compute the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from treadle._inputs import checks
from treadle._public import published
from treadle.layers.configuration import Entry, Number
from treadle.layers.elementwise import Elementwise, activated
from treadle.layers.linear import epilogue
from treadle.layers.module import Module, layer

if TYPE_CHECKING:
    from treadle._inputs.types import ArrayLike, Float
    from treadle.layers.activation import Activation
    from treadle.layers.configuration import Entries
    from treadle.layers.linear import Epilogue


class ActivationLayer(Elementwise):
    """The base of the layers that apply an activation of `treadle.layers.activation`."""

    _epilogue: Epilogue
    _derived = Module._derived | {"_epilogue"}

    def _activation(self) -> Activation:
        """Return the activation, as the other layers take it."""
        raise NotImplementedError

    def _check_configuration(self) -> None:
        super()._check_configuration()
        self.__dict__["_epilogue"] = epilogue(self._function, self._activation())

    def __call__(self, x: ArrayLike) -> Float:
        return activated(self._function, x, self._activation())


@published("treadle")
@layer
class ReLU(ActivationLayer):
    """``torch.nn.ReLU``: max(0, x).

    Examples
    --------
    >>> import treadle
    >>> treadle.ReLU()([-1.0, 2.0])
    array([0., 2.], dtype=float32)
    """

    def __init__(self) -> None:
        self._initialize({})

    def _activation(self) -> Activation:
        return "relu"


@published("treadle")
@layer
class Tanh(ActivationLayer):
    """``torch.nn.Tanh``: tanh(x).

    Examples
    --------
    >>> import treadle
    >>> treadle.Tanh()([0.0, 100.0])
    array([0., 1.], dtype=float32)
    """

    def __init__(self) -> None:
        self._initialize({})

    def _activation(self) -> Activation:
        return "tanh"


@published("treadle")
@layer
class Sigmoid(ActivationLayer):
    """``torch.nn.Sigmoid``: 1 / (1 + exp(-x)).

    Examples
    --------
    >>> import treadle
    >>> treadle.Sigmoid()([0.0, 100.0])
    array([0.5, 1. ], dtype=float32)
    """

    def __init__(self) -> None:
        self._initialize({})

    def _activation(self) -> Activation:
        return "sigmoid"


class _Approximation(Entry):
    """The formula of a GELU: "none" or "tanh"."""

    __slots__ = ()

    def _checked(self, function: str, name: str, value: Any) -> str:
        gelu(function, value)
        return str(value)


def gelu(function: str, approximate: object) -> str:
    """Return the activation of a GELU, whose formula has PyTorch's name."""
    found = {"none": "gelu", "tanh": "gelu_tanh"}.get(str(approximate))
    if found is None or not isinstance(approximate, str):
        raise ValueError(
            f"{function}: approximate is {checks.shown(approximate)}, "
            'expected "none" (erf) or "tanh"'
        )
    return found


@published("treadle")
@layer
class GELU(ActivationLayer):
    """``torch.nn.GELU``: x Phi(x), or its approximation by tanh with ``approximate="tanh"``.

    Examples
    --------
    >>> import treadle
    >>> treadle.GELU("tanh")([0.0, 100.0])
    array([  0., 100.], dtype=float32)
    """

    _entries: ClassVar[Entries] = {"approximate": _Approximation()}

    def __init__(self, approximate: str = "none") -> None:
        self._initialize(locals())

    def _activation(self) -> Activation:
        return gelu(self._function, self._configuration["approximate"])


@published("treadle")
@layer
class SiLU(ActivationLayer):
    """``torch.nn.SiLU``: x / (1 + exp(-x)).

    Examples
    --------
    >>> import treadle
    >>> treadle.SiLU()([0.0, 100.0])
    array([  0., 100.], dtype=float32)
    """

    def __init__(self) -> None:
        self._initialize({})

    def _activation(self) -> Activation:
        return "silu"


@published("treadle")
@layer
class Softplus(ActivationLayer):
    """``torch.nn.Softplus`` with its defaults: log(1 + exp(x)).

    Examples
    --------
    >>> import treadle
    >>> treadle.Softplus()([-200.0, 100.0])
    array([  0., 100.], dtype=float32)
    """

    def __init__(self) -> None:
        self._initialize({})

    def _activation(self) -> Activation:
        return "softplus"


@published("treadle")
@layer
class Softsign(ActivationLayer):
    """``torch.nn.Softsign``: x / (1 + abs(x)).

    Examples
    --------
    >>> import treadle
    >>> treadle.Softsign()([-1.0, 0.0])
    array([-0.5,  0. ], dtype=float32)
    """

    def __init__(self) -> None:
        self._initialize({})

    def _activation(self) -> Activation:
        return "softsign"


@published("treadle")
@layer
class ELU(ActivationLayer):
    """``torch.nn.ELU``: x if x >= 0 else alpha (exp(x) - 1).

    Examples
    --------
    >>> import treadle
    >>> treadle.ELU(0.5)([-200.0, 2.0])
    array([-0.5,  2. ], dtype=float32)
    """

    _entries: ClassVar[Entries] = {"alpha": Number()}

    def __init__(self, alpha: float = 1.0) -> None:
        self._initialize(locals())

    def _activation(self) -> Activation:
        return "elu", self._configuration["alpha"]


@published("treadle")
@layer
class LeakyReLU(ActivationLayer):
    """``torch.nn.LeakyReLU``: x if x >= 0 else negative_slope x.

    Examples
    --------
    >>> import treadle
    >>> treadle.LeakyReLU(0.25)([-4.0, 2.0])
    array([-1.,  2.], dtype=float32)
    """

    _entries: ClassVar[Entries] = {"negative_slope": Number()}

    def __init__(self, negative_slope: float = 0.01) -> None:
        self._initialize(locals())

    def _activation(self) -> Activation:
        return "leaky_relu", self._configuration["negative_slope"]


@published("treadle")
@layer
class Hardsigmoid(ActivationLayer):
    """``torch.nn.Hardsigmoid``: min(1, max(0, x / 6 + 1 / 2)).

    Examples
    --------
    >>> import treadle
    >>> treadle.Hardsigmoid()([-9.0, 0.0, 9.0])
    array([0. , 0.5, 1. ], dtype=float32)
    """

    def __init__(self) -> None:
        self._initialize({})

    def _activation(self) -> Activation:
        return "hard_sigmoid"


def bounds(function: str, low: float, high: float) -> Activation:
    """Return the activation that keeps numbers in low..high. Raises ValueError for low > high."""
    if low > high:
        raise ValueError(f"{function}: min_val is {low}, expected at most max_val = {high}")
    return "clip", low, high


@published("treadle")
@layer
class Hardtanh(ActivationLayer):
    """``torch.nn.Hardtanh``: x, kept in min_val..max_val; NaN stays NaN.

    Examples
    --------
    >>> import treadle
    >>> treadle.Hardtanh()([-9.0, 0.5, 9.0])
    array([-1. ,  0.5,  1. ], dtype=float32)
    """

    _entries: ClassVar[Entries] = {"min_val": Number(), "max_val": Number()}

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0) -> None:
        self._initialize(locals())

    def _activation(self) -> Activation:
        return bounds(
            self._function, self._configuration["min_val"], self._configuration["max_val"]
        )


@published("treadle")
@layer
class Hardswish(ActivationLayer):
    """``torch.nn.Hardswish``: x min(1, max(0, x / 6 + 1 / 2)).

    Examples
    --------
    >>> import treadle
    >>> treadle.Hardswish()([-9.0, 0.0, 9.0])
    array([-0.,  0.,  9.], dtype=float32)
    """

    def __init__(self) -> None:
        self._initialize({})

    def _activation(self) -> Activation:
        return "hard_swish"


@published("treadle")
@layer
class ReLU6(ActivationLayer):
    """``torch.nn.ReLU6``: min(6, max(0, x)).

    Examples
    --------
    >>> import treadle
    >>> treadle.ReLU6()([-9.0, 0.5, 9.0])
    array([0. , 0.5, 6. ], dtype=float32)
    """

    def __init__(self) -> None:
        self._initialize({})

    def _activation(self) -> Activation:
        return "clip"

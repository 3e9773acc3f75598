"""Linear: a product with weights that are packed once."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from treadle import _core
from treadle._inputs import checks
from treadle._inputs.arrays import to_float32
from treadle._public import published
from treadle.layers.activation import parse
from treadle.layers.configuration import Dtype, Flag, Integer, Nonlinearity
from treadle.layers.module import Module, layer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from treadle._inputs.types import AnyArray, ArrayLike, Float
    from treadle.layers.activation import Activation
    from treadle.layers.build import Shapes
    from treadle.layers.configuration import Entries

    # An activation as native code takes it, or None for the linear one.
    Epilogue = tuple[str, float, float] | None


class Product(Module):
    """The base of Linear and of convolutions, which apply an activation while a tile is in
    registers.
    """

    _epilogue: Epilogue
    _derived = Module._derived | {"_epilogue"}
    _entries: ClassVar[Entries] = {
        "bias": Flag(),
        "activation": Nonlinearity(optional=True),
        "dtype": Dtype(),
    }

    def _check_configuration(self) -> None:
        super()._check_configuration()
        activation = self._configuration["activation"]
        self.__dict__["_epilogue"] = epilogue(self._function, activation)

    def __call__(self, x: ArrayLike) -> Float:
        """Return the layer's output as a new array, by the formula and the shapes of the class.

        Raises ValueError for a shape that does not fit, TypeError for another dtype than float32
        and bfloat16.
        """
        return self._run(x, self._epilogue)

    def _run(self, x: ArrayLike, then: Epilogue) -> Float:
        """Compute the product and apply ``then``."""
        raise NotImplementedError


@published("treadle")
@layer
class Linear(Product):
    """``torch.nn.Linear``: y = act(x weight^T + bias), with the weights packed once.

    ``dtype`` is the format of the weight and of x in the product: "float32", "bfloat16" or "int8".
    Sums, bias and activation are float32. ``activation`` is any of `treadle.layers.activation`, and
    None by default; the other arguments are PyTorch's. A row's result has the same bits alone and
    in any batch, whatever the number of threads.

    Shapes: x [..., in_features], y [..., out_features], weight [out_features, in_features], bias
    [out_features]. ``seed`` makes the initial parameters repeatable: they are uniform between
    -1/sqrt(in_features) and 1/sqrt(in_features), as in PyTorch.

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong kind or value.
    MemoryError
        For sizes beyond the machine.

    Examples
    --------
    >>> import numpy as np, treadle
    >>> classes = treadle.Linear(64, 10, seed=0)
    >>> classes(np.zeros((32, 5, 64), np.float32)).shape
    (32, 5, 10)
    >>> classes.to("int8")
    Linear(64, 10, dtype='int8')
    """

    _sizes: tuple[int, int]
    _fits: Callable[[AnyArray], None]
    _derived = Product._derived | {"_fits", "_sizes"}
    _entries: ClassVar[Entries] = {
        **Product._entries,
        "in_features": Integer(),
        "out_features": Integer(),
    }

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        activation: Activation = None,
        dtype: Any = "float32",
        seed: Any = None,
    ) -> None:
        self._initialize(locals())

    def _check_configuration(self) -> None:
        super()._check_configuration()
        own = self._configuration
        self.__dict__["_sizes"] = own["out_features"], own["in_features"]
        self.__dict__["_fits"] = partial(fits_rows, self._function, own["in_features"])

    def _shapes(self) -> Shapes:
        own = self._configuration
        shapes: Shapes = {"weight": (own["out_features"], own["in_features"])}
        return shapes | ({"bias": (own["out_features"],)} if own["bias"] else {})

    def _initial(self, name: str, shape: tuple[int, ...]) -> tuple[float, float]:
        return 0.0, self._configuration["in_features"] ** -0.5

    def _pack(self, parameters: Mapping[str, Any]) -> _core.Linear:
        own = self._configuration
        return _core.Linear(
            self._function, parameters["weight"], parameters.get("bias"), own["dtype"]
        )

    def _run(self, x: ArrayLike, then: Epilogue) -> Float:
        function, sizes = self._function, self._sizes
        x = to_float32(function, "x", x, self._fits)
        return multiplied(function, self._packed.native, x, sizes, then)


def multiplied(
    function: str,
    native: _core.Linear,
    x: Float,
    sizes: tuple[int, int],
    then: Epilogue,
    residual: Float | None = None,
) -> Float:
    """Run a product of ``sizes`` (N, K) over the last axis of x [..., K], add residual [..., N];
    `fits_rows` and the caller have checked the shapes.
    """
    if x.ndim == 2 and residual is None:  # the native code checks the shape
        return native.run(function, x, then)
    outputs, inputs = sizes
    shape = (*x.shape[:-1], outputs)
    rows = math.prod(x.shape[:-1])  # reshape cannot find out -1 when K is 0
    if residual is not None:
        residual = residual.reshape(rows, outputs)
    return native.run(function, x.reshape(rows, inputs), then, residual).reshape(shape)


def fits_rows(function: str, inputs: int, x: AnyArray) -> None:
    """Raise ValueError unless x has the shape [..., K]."""
    if x.ndim == 0 or x.shape[-1] != inputs:
        checks.shape(function, "x", x, (None, inputs), ("...", "K"))


def epilogue(function: str, activation: Activation) -> Epilogue:
    """Return an activation as (name, alpha, beta) for the native code, or None for the linear one.

    Raises TypeError or ValueError for anything that is no activation.
    """
    parsed = parse(function, "activation", activation)
    return None if parsed[0] == "linear" else parsed

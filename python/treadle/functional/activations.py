"""The activations, softmax and log_softmax as functions of an array.

Each takes and returns float32 in any shape and raises TypeError for another dtype. The activations
are those of `treadle.layers.activation`, which a product or a recurrent net applies itself, and
`hard_tanh`. A row of softmax has the same bits alone and among others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from treadle import _core
from treadle._inputs import checks
from treadle._public import published
from treadle.layers import activation_layers
from treadle.layers.elementwise import activated, along

if TYPE_CHECKING:
    from treadle._inputs.types import ArrayLike, Float


@published("treadle.functional")
def relu(x: ArrayLike) -> Float:
    """Return max(0, x), float32; NaN stays NaN.

    Examples
    --------
    >>> import treadle
    >>> treadle.functional.relu([-1.0, 2.0])
    array([0., 2.], dtype=float32)
    """
    return activated("treadle.functional.relu", x, "relu")


@published("treadle.functional")
def tanh(x: ArrayLike) -> Float:
    """Return tanh(x), float32.

    Examples
    --------
    >>> import treadle
    >>> treadle.functional.tanh([0.0, 100.0])
    array([0., 1.], dtype=float32)
    """
    return activated("treadle.functional.tanh", x, "tanh")


@published("treadle.functional")
def sigmoid(x: ArrayLike) -> Float:
    """Return 1 / (1 + exp(-x)), float32.

    Examples
    --------
    >>> import treadle
    >>> treadle.functional.sigmoid([0.0, 100.0])
    array([0.5, 1. ], dtype=float32)
    """
    return activated("treadle.functional.sigmoid", x, "sigmoid")


@published("treadle.functional")
def silu(x: ArrayLike) -> Float:
    """Return x sigmoid(x) = x / (1 + exp(-x)), float32; also called swish.

    Examples
    --------
    >>> import treadle
    >>> treadle.functional.silu([0.0, 100.0])
    array([  0., 100.], dtype=float32)
    """
    return activated("treadle.functional.silu", x, "silu")


@published("treadle.functional")
def softplus(x: ArrayLike) -> Float:
    """Return log(1 + exp(x)), float32.

    Examples
    --------
    >>> import treadle
    >>> treadle.functional.softplus([-200.0, 100.0])
    array([  0., 100.], dtype=float32)
    """
    return activated("treadle.functional.softplus", x, "softplus")


@published("treadle.functional")
def softsign(x: ArrayLike) -> Float:
    """Return x / (1 + abs(x)), float32.

    Examples
    --------
    >>> import treadle
    >>> treadle.functional.softsign([-1.0, 0.0])
    array([-0.5,  0. ], dtype=float32)
    """
    return activated("treadle.functional.softsign", x, "softsign")


@published("treadle.functional")
def gelu(x: ArrayLike, approximate: str = "none") -> Float:
    """Return x Phi(x), with Phi the normal distribution: x (1 + erf(x / sqrt 2)) / 2; float32.

    ``approximate="tanh"``: x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2.

    Raises
    ------
    ValueError
        For another ``approximate``.

    References
    ----------
    Hendrycks and Gimpel, Gaussian error linear units, arXiv:1606.08415.

    Examples
    --------
    >>> import treadle
    >>> treadle.functional.gelu([0.0, 100.0])
    array([  0., 100.], dtype=float32)
    """
    function = "treadle.functional.gelu"
    return activated(function, x, activation_layers.gelu(function, approximate))


@published("treadle.functional")
def elu(x: ArrayLike, alpha: float = 1.0) -> Float:
    """Return x where x >= 0, else alpha (exp(x) - 1), float32.

    Examples
    --------
    >>> import treadle
    >>> treadle.functional.elu([-200.0, 2.0], 0.5)
    array([-0.5,  2. ], dtype=float32)
    """
    return _with("elu", x, alpha=alpha)


@published("treadle.functional")
def leaky_relu(x: ArrayLike, negative_slope: float = 0.01) -> Float:
    """Return x where x >= 0, else negative_slope x, float32.

    Examples
    --------
    >>> import treadle
    >>> treadle.functional.leaky_relu([-4.0, 2.0], 0.25)
    array([-1.,  2.], dtype=float32)
    """
    return _with("leaky_relu", x, negative_slope=negative_slope)


@published("treadle.functional")
def thresholded_relu(x: ArrayLike, alpha: float = 1.0) -> Float:
    """Return x where x > alpha, else 0, float32.

    Examples
    --------
    >>> import treadle
    >>> treadle.functional.thresholded_relu([0.5, 2.0])
    array([0., 2.], dtype=float32)
    """
    return _with("thresholded_relu", x, alpha=alpha)


@published("treadle.functional")
def hard_sigmoid(x: ArrayLike, alpha: float = 1 / 6, beta: float = 1 / 2) -> Float:
    """Return min(1, max(0, alpha x + beta)), float32.

    The defaults are PyTorch's and Keras 3's; ONNX's and Keras 2's alpha is 0.2.

    Examples
    --------
    >>> import treadle
    >>> treadle.functional.hard_sigmoid([-9.0, 0.0, 9.0])
    array([0. , 0.5, 1. ], dtype=float32)
    """
    return _with("hard_sigmoid", x, alpha=alpha, beta=beta)


@published("treadle.functional")
def hard_swish(x: ArrayLike) -> Float:
    """Return x min(1, max(0, x / 6 + 1 / 2)), float32, ``torch.nn.functional.hardswish``.

    References
    ----------
    Howard et al., Searching for MobileNetV3, arXiv:1905.02244.

    Examples
    --------
    >>> import treadle
    >>> treadle.functional.hard_swish([-9.0, 0.0, 9.0])
    array([-0.,  0.,  9.], dtype=float32)
    """
    return activated("treadle.functional.hard_swish", x, "hard_swish")


@published("treadle.functional")
def relu6(x: ArrayLike) -> Float:
    """Return min(6, max(0, x)), float32; NaN stays NaN.

    Examples
    --------
    >>> import treadle
    >>> treadle.functional.relu6([-9.0, 0.5, 9.0])
    array([0. , 0.5, 6. ], dtype=float32)
    """
    return activated("treadle.functional.relu6", x, "clip")


@published("treadle.functional")
def hard_tanh(x: ArrayLike, min_val: float = -1.0, max_val: float = 1.0) -> Float:
    """Return x, kept in min_val..max_val, float32; NaN stays NaN.

    Raises
    ------
    ValueError
        For a min_val above max_val.

    Examples
    --------
    >>> import treadle
    >>> treadle.functional.hard_tanh([-9.0, 0.5, 9.0])
    array([-1. ,  0.5,  1. ], dtype=float32)
    """
    function = "treadle.functional.hard_tanh"
    low = checks.number(function, "min_val", min_val)
    high = checks.number(function, "max_val", max_val)
    return activated(function, x, activation_layers.bounds(function, low, high))


@published("treadle.functional")
def affine(x: ArrayLike, alpha: float = 1.0, beta: float = 0.0) -> Float:
    """Return alpha x + beta, float32.

    Examples
    --------
    >>> import treadle
    >>> treadle.functional.affine([1.0, 2.0], 2.0, 0.5)
    array([2.5, 4.5], dtype=float32)
    """
    return _with("affine", x, alpha=alpha, beta=beta)


@published("treadle.functional")
def scaled_tanh(x: ArrayLike, alpha: float = 1.0, beta: float = 1.0) -> Float:
    """Return alpha tanh(beta x), float32.

    Examples
    --------
    >>> import treadle
    >>> treadle.functional.scaled_tanh([0.0, 100.0], 1.5)
    array([0. , 1.5], dtype=float32)
    """
    return _with("scaled_tanh", x, alpha=alpha, beta=beta)


@published("treadle.functional")
def softmax(x: ArrayLike, dim: int = -1) -> Float:
    """Return exp(x - max x) / sum exp(x - max x) over the axis ``dim`` of x, float32.

    A row whose numbers are all -inf gives zeros (NaN in PyTorch).

    Raises
    ------
    ValueError
        For an axis that x does not have.
    TypeError
        For another dtype.

    Examples
    --------
    >>> import treadle
    >>> treadle.functional.softmax([[0.0, 0.0], [-float("inf"), 1.0]])
    array([[0.5, 0.5],
           [0. , 1. ]], dtype=float32)
    """
    return along(_core.softmax, "treadle.functional.softmax", x, dim)


@published("treadle.functional")
def log_softmax(x: ArrayLike, dim: int = -1) -> Float:
    """Return x - max x - log(sum exp(x - max x)) over the axis ``dim`` of x, float32.

    This is the logarithm of `softmax` where that would be zero, too. A row whose numbers are all
    -inf stays as it is (NaN in PyTorch).

    Raises
    ------
    ValueError
        For an axis that x does not have.
    TypeError
        For another dtype.

    Examples
    --------
    >>> import treadle
    >>> treadle.functional.log_softmax([[0.0, 1000.0]])
    array([[-1000.,     0.]], dtype=float32)
    """
    return along(_core.log_softmax, "treadle.functional.log_softmax", x, dim)


def _with(name: str, x: ArrayLike, **parameters: float) -> Float:
    """Apply an activation with parameters, which errors call as the function's caller does."""
    function = f"treadle.functional.{name}"
    alpha, *beta = (checks.number(function, k, value) for k, value in parameters.items())
    return activated(function, x, (name, alpha, beta[0]) if beta else (name, alpha))

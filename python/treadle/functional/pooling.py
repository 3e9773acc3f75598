"""These functions pool sequences [B, C, T] or [C, T] and images [B, C, H, W] or [C, H, W].

A window without a pixel of x cannot occur: padding is at most half of what a kernel reaches over.
NaN in a window is its maximum. An output has the same bits whatever the batch and the threads are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from treadle._inputs import checks
from treadle._public import published
from treadle.layers.adaptive_pooling import adaptively_pooled
from treadle.layers.pooling import Windows, average, pooled, without_indices

if TYPE_CHECKING:
    from treadle._inputs.types import ArrayLike, Float


@published("treadle.functional")
def max_pool1d(
    x: ArrayLike,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Float:
    """Return the largest number of each window over time, ``torch.nn.functional.max_pool1d``::

        y[b, c, t] = max_j x[b, c, stride t + dilation j - padding]

    over the steps j < kernel_size that are inside of x. x [B, C, T] or [C, T]. The stride is that
    of the kernel where it is None. With ``ceil_mode`` a last window that reaches beyond the padding
    counts, too. ``return_indices`` must be False.

    Raises
    ------
    ValueError
        For sizes that do not fit, a padding of more than half of the kernel, or return_indices.
    TypeError
        For another dtype than float32 and bfloat16.

    Examples
    --------
    >>> import treadle
    >>> treadle.functional.max_pool1d([[1.0, 3.0, 2.0, 0.0]], 2)
    array([[3., 2.]], dtype=float32)
    """
    function, arguments = "treadle.functional.max_pool1d", locals()
    without_indices(function, return_indices)
    return pooled(function, x, "max", Windows.checked(function, 1, arguments))


@published("treadle.functional")
def max_pool2d(
    x: ArrayLike,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Float:
    """Return the largest number of each window of images, ``torch.nn.functional.max_pool2d``.

    x [B, C, H, W] or [C, H, W]; kernel_size, stride, padding and dilation are an integer, or one
    for each axis. As in `max_pool1d`, along both axes.

    Raises
    ------
    ValueError
        For sizes that do not fit, a padding of more than half of the kernel, or return_indices.
    TypeError
        For another dtype than float32 and bfloat16.

    Examples
    --------
    >>> import treadle
    >>> treadle.functional.max_pool2d([[[1.0, 3.0], [2.0, 0.0]]], (2, 1))
    array([[[2., 3.]]], dtype=float32)
    """
    function, arguments = "treadle.functional.max_pool2d", locals()
    without_indices(function, return_indices)
    return pooled(function, x, "max", Windows.checked(function, 2, arguments))


@published("treadle.functional")
def avg_pool1d(
    x: ArrayLike,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Float:
    """Return the average of each window over time, ``torch.nn.functional.avg_pool1d``.

    x [B, C, T] or [C, T], zero in its padding, which counts unless ``count_include_pad`` is False.
    The other arguments are those of `max_pool1d`.

    Raises
    ------
    ValueError
        For sizes that do not fit, or a padding of more than half of the kernel.
    TypeError
        For another dtype than float32 and bfloat16.

    Examples
    --------
    >>> import treadle
    >>> treadle.functional.avg_pool1d([[1.0, 3.0, 2.0, 0.0]], 2)
    array([[2., 1.]], dtype=float32)
    """
    function, arguments = "treadle.functional.avg_pool1d", locals()
    kind = average(checks.flag(function, "count_include_pad", count_include_pad))
    return pooled(function, x, kind, Windows.checked(function, 1, arguments))


@published("treadle.functional")
def avg_pool2d(
    x: ArrayLike,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Float:
    """Return the average of each window of images, ``torch.nn.functional.avg_pool2d``.

    x [B, C, H, W] or [C, H, W], zero in its padding, which counts unless ``count_include_pad`` is
    False; ``divisor_override`` is what every sum is divided by instead.

    Raises
    ------
    ValueError
        For sizes that do not fit, or a padding of more than half of the kernel.
    TypeError
        For another dtype than float32 and bfloat16.

    Examples
    --------
    >>> import treadle
    >>> treadle.functional.avg_pool2d([[[1.0, 3.0], [2.0, 0.0]]], 2)
    array([[[1.5]]], dtype=float32)
    """
    function, arguments = "treadle.functional.avg_pool2d", locals()
    kind = average(checks.flag(function, "count_include_pad", count_include_pad))
    return pooled(function, x, kind, Windows.checked(function, 2, arguments), divisor_override)


@published("treadle.functional")
def adaptive_avg_pool1d(x: ArrayLike, output_size: Any) -> Float:
    """Return the averages of output_size windows that together cover all of x [B, C, T] or [C, T].

    Window i has the steps from floor(i T / output_size) up to ceil((i + 1) T / output_size), as in
    PyTorch; None keeps all steps.

    Raises
    ------
    ValueError
        For sizes that do not fit.
    TypeError
        For another dtype than float32 and bfloat16.

    Examples
    --------
    >>> import treadle
    >>> treadle.functional.adaptive_avg_pool1d([[1.0, 3.0, 2.0]], 2)
    array([[2. , 2.5]], dtype=float32)
    """
    return adaptively_pooled("treadle.functional.adaptive_avg_pool1d", x, "average", output_size, 1)


@published("treadle.functional")
def adaptive_avg_pool2d(x: ArrayLike, output_size: Any) -> Float:
    """Return averages of x [B, C, H, W] or [C, H, W] as `adaptive_avg_pool1d`, along both axes.

    ``output_size`` is an integer, or one for each axis, which may be None.

    Raises
    ------
    ValueError
        For sizes that do not fit.
    TypeError
        For another dtype than float32 and bfloat16.

    Examples
    --------
    >>> import treadle
    >>> treadle.functional.adaptive_avg_pool2d([[[1.0, 3.0], [2.0, 0.0]]], 1)
    array([[[1.5]]], dtype=float32)
    """
    return adaptively_pooled("treadle.functional.adaptive_avg_pool2d", x, "average", output_size, 2)


@published("treadle.functional")
def adaptive_max_pool1d(x: ArrayLike, output_size: Any, return_indices: bool = False) -> Float:
    """Return the largest numbers of the windows of `adaptive_avg_pool1d`.

    Raises
    ------
    ValueError
        For sizes that do not fit, or return_indices.
    TypeError
        For another dtype than float32 and bfloat16.

    Examples
    --------
    >>> import treadle
    >>> treadle.functional.adaptive_max_pool1d([[1.0, 3.0, 2.0]], 1)
    array([[3.]], dtype=float32)
    """
    function = "treadle.functional.adaptive_max_pool1d"
    without_indices(function, return_indices)
    return adaptively_pooled(function, x, "max", output_size, 1)


@published("treadle.functional")
def adaptive_max_pool2d(x: ArrayLike, output_size: Any, return_indices: bool = False) -> Float:
    """Return the largest numbers of the windows of `adaptive_avg_pool2d`.

    Raises
    ------
    ValueError
        For sizes that do not fit, or return_indices.
    TypeError
        For another dtype than float32 and bfloat16.

    Examples
    --------
    >>> import treadle
    >>> treadle.functional.adaptive_max_pool2d([[[1.0, 3.0], [2.0, 0.0]]], (1, None))
    array([[[2., 3.]]], dtype=float32)
    """
    function = "treadle.functional.adaptive_max_pool2d"
    without_indices(function, return_indices)
    return adaptively_pooled(function, x, "max", output_size, 2)

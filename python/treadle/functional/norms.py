"""These functions normalize channels: batch norm by given statistics, group and instance norm.

x is [B, C, ...] with any further axes, float32. A sample has the same bits whatever the batch and
the threads are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from treadle._inputs import checks
from treadle._inputs.arrays import to_dense
from treadle._public import published
from treadle.layers.batch_norm import scale_and_shift, scaled
from treadle.layers.group_norm import check_groups, group_normed

if TYPE_CHECKING:
    from treadle._inputs.types import ArrayLike, Float


@published("treadle.functional")
def batch_norm(
    x: ArrayLike,
    running_mean: ArrayLike,
    running_var: ArrayLike,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    training: bool = False,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
) -> Float:
    """Return (x - running_mean) / sqrt(running_var + eps) * weight + bias, for each channel.

    x [B, C, ...], all others [C]. ``training`` must be False, and ``momentum``, which training
    needs, is not read: both are there since PyTorch has them.

    Raises
    ------
    ValueError
        For a shape that does not fit, a negative eps, or training.
    TypeError
        For another dtype.

    References
    ----------
    Ioffe and Szegedy, Batch normalization, arXiv:1502.03167.

    Examples
    --------
    >>> import treadle
    >>> treadle.functional.batch_norm([[1.0], [3.0]], [1.0], [4.0], eps=0.0)
    array([[0.],
           [1.]], dtype=float32)
    """
    function = "treadle.functional.batch_norm"
    if checks.flag(function, "training", training):
        raise ValueError(f"{function}: training is True, expected False: treadle runs inference")
    x = _with_channels(function, x)
    channels = x.shape[1]
    mean = _of_channels(function, "running_mean", running_mean, channels)
    variance = _of_channels(function, "running_var", running_var, channels)
    weight, bias = _factors(function, weight, bias, channels)
    eps = checks.number(function, "eps", eps, least=0)
    return scaled(function, x, *scale_and_shift(mean, variance, weight, bias, eps))


@published("treadle.functional")
def instance_norm(
    x: ArrayLike,
    running_mean: ArrayLike | None = None,
    running_var: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    use_input_stats: bool = True,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
) -> Float:
    """Return (x - mean) / sqrt(variance + eps) * weight + bias, by each sample's and channel's own
    mean and variance over the further axes of x [B, C, ...].

    With ``use_input_stats=False`` this is `batch_norm` by the running statistics, which are read
    in no other case, as ``momentum`` is.

    Raises
    ------
    ValueError
        For a shape that does not fit, a negative eps, or statistics that are missing.
    TypeError
        For another dtype.

    References
    ----------
    Ulyanov, Vedaldi and Lempitsky, Instance normalization, arXiv:1607.08022.

    Examples
    --------
    >>> import treadle
    >>> treadle.functional.instance_norm([[[1.0, 3.0]]], eps=0.0)
    array([[[-1.,  1.]]], dtype=float32)
    """
    function = "treadle.functional.instance_norm"
    eps = checks.number(function, "eps", eps, least=0)
    x = _with_channels(function, x)
    channels = x.shape[1]
    weight, bias = _factors(function, weight, bias, channels)
    if checks.flag(function, "use_input_stats", use_input_stats):
        return group_normed(function, x, max(channels, 1), weight, bias, eps)
    if running_mean is None or running_var is None:
        raise ValueError(
            f"{function}: use_input_stats is False, expected running_mean and running_var"
        )
    mean = _of_channels(function, "running_mean", running_mean, channels)
    variance = _of_channels(function, "running_var", running_var, channels)
    return scaled(function, x, *scale_and_shift(mean, variance, weight, bias, eps))


@published("treadle.functional")
def group_norm(
    x: ArrayLike,
    num_groups: int,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
) -> Float:
    """Return (x - mean) / sqrt(variance + eps) * weight + bias, where mean and variance are those
    of each sample and group of C / num_groups channels, over all further axes of x [B, C, ...].

    Raises
    ------
    ValueError
        For a shape that does not fit, a negative eps, or groups that do not divide the channels.
    TypeError
        For another dtype.

    References
    ----------
    Wu and He, Group normalization, arXiv:1803.08494.

    Examples
    --------
    >>> import treadle
    >>> treadle.functional.group_norm([[1.0, 3.0]], 1, eps=0.0)
    array([[-1.,  1.]], dtype=float32)
    """
    function = "treadle.functional.group_norm"
    groups = checks.integer(function, "num_groups", num_groups)
    eps = checks.number(function, "eps", eps, least=0)
    x = _with_channels(function, x)
    check_groups(function, groups, x.shape[1])
    weight, bias = _factors(function, weight, bias, x.shape[1])
    return group_normed(function, x, groups, weight, bias, eps)


def _with_channels(function: str, x: ArrayLike) -> Float:
    x = to_dense(function, "x", x)
    if x.ndim < 2:
        raise ValueError(f"{function}: x has shape {x.shape}, expected [B, C, ...]")
    return np.atleast_1d(x)


def _factors(
    function: str, weight: ArrayLike | None, bias: ArrayLike | None, channels: int
) -> tuple[Float | None, Float | None]:
    return (
        None if weight is None else _of_channels(function, "weight", weight, channels),
        None if bias is None else _of_channels(function, "bias", bias, channels),
    )


def _of_channels(function: str, name: str, value: ArrayLike, channels: int) -> Float:
    return to_dense(function, name, value, checks.fits(function, name, (channels,), "C"))

"""This module captures PyTorch's pooling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from treadle.torch.capture_builder import captures
from treadle.torch.capture_sizes import expression, known

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from treadle.torch.capture_builder import Call


def _sizes(found: Any, axes: int) -> list[int]:
    found = [found] if isinstance(found, int) else [int(size) for size in found]
    return found * axes if len(found) == 1 else found


def batched(call: Call, axes: int, run: Callable[[str], Any]) -> Any:
    """Run on the input with an axis for the batch, which it may lack."""
    x = call.value("self")
    if call.rank("self") == axes + 2:
        return run(x)
    at = call.builder.integers([0])
    found = run(call.emit("Unsqueeze", x, at))
    if isinstance(found, str):
        return call.emit("Squeeze", found, at)
    return tuple(call.emit("Squeeze", part, at) for part in found)


def _axes(call: Call) -> int:
    name = str(call.node.target)
    if "3d" in name:
        raise call.refuse("pooling of three axes is not supported")
    return 1 if "1d" in name else 2


def _window(call: Call, axes: int) -> dict[str, Any]:
    kernel = _sizes(call["kernel_size"], axes)
    return {
        "kernel_shape": kernel,
        "strides": _sizes(call["stride"] or kernel, axes),
        "pads": _sizes(call["padding"], axes) * 2,
        "ceil_mode": int(call["ceil_mode"]),
    }


@captures("aten.max_pool1d", "aten.max_pool2d", "aten.max_pool3d", "aten.max_pool1d_with_indices",
          "aten.max_pool2d_with_indices", "aten.max_pool3d_with_indices")  # fmt: skip
def _max_pool(call: Call) -> Any:
    axes = _axes(call)
    options = _window(call, axes) | {"dilations": _sizes(call["dilation"], axes)}
    y = batched(call, axes, lambda x: call.emit("MaxPool", x, **options))
    return (y, None) if "indices" in str(call.node.target) else y


@captures("aten.avg_pool1d", "aten.avg_pool2d", "aten.avg_pool3d")
def _avg_pool(call: Call) -> str:
    axes = _axes(call)
    if call.get("divisor_override"):
        raise call.refuse("divisor_override is not supported")
    options = _window(call, axes) | {"count_include_pad": int(call["count_include_pad"])}
    found: str = batched(call, axes, lambda x: call.emit("AveragePool", x, **options))
    return found


@captures("aten.adaptive_avg_pool1d", "aten.adaptive_avg_pool2d", "aten._adaptive_avg_pool2d",
          "aten.adaptive_max_pool1d", "aten.adaptive_max_pool2d", "aten.adaptive_avg_pool3d",
          "aten.adaptive_max_pool3d")  # fmt: skip
def _adaptive(call: Call) -> Any:
    axes, most = _axes(call), "max" in str(call.node.target)
    wanted = _sizes(call["output_size"], axes)
    spatial = call.shape("self")[-axes:]
    if all(size == 1 for size in wanted):
        op = "GlobalMaxPool" if most else "GlobalAveragePool"
        y = batched(call, axes, lambda x: call.emit(op, x))
        return (y, None) if most else y
    if not all(map(known, spatial)):
        raise call.refuse(
            f"adaptive pooling to {wanted} of an axis of a dynamic size; name the axes that are "
            "dynamic by dynamic=, without these"
        )
    sizes = [int(expression(size)) for size in spatial]
    if all(size % out == 0 for size, out in zip(sizes, wanted, strict=True)):
        kernel = [size // out for size, out in zip(sizes, wanted, strict=True)]
        options = {"kernel_shape": kernel, "strides": kernel}
        op = "MaxPool" if most else "AveragePool"
        y = batched(call, axes, lambda x: call.emit(op, x, **options))
        return (y, None) if most else y
    if most:
        raise call.refuse(f"adaptive max pooling from {sizes} to {wanted} is not supported")
    value = call.value("self")
    for axis, (size, out) in enumerate(zip(sizes, wanted, strict=True)):
        value = _averaged(call, value, axis - axes, axes, (size, out))
    return value


def _averaged(call: Call, value: str, axis: int, axes: int, sizes: Sequence[int]) -> str:
    """Average windows of unequal lengths along an axis: a product with a matrix."""
    size, out = sizes
    matrix = np.zeros((size, out), np.float32)
    for i in range(out):
        start, end = i * size // out, -(-(i + 1) * size // out)
        matrix[start:end, i] = 1 / (end - start)
    if axis == -1:
        return call.emit("MatMul", value, call.builder.constant(matrix))
    return call.emit("MatMul", call.builder.constant(np.ascontiguousarray(matrix.T)), value)

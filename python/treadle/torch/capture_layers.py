"""This module captures PyTorch's products, convolutions, norms and pooling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from treadle.torch.capture_builder import captures
from treadle.torch.capture_movement import transposed
from treadle.torch.capture_pointwise import number
from treadle.torch.capture_sizes import expression, known, size_of, vector

if TYPE_CHECKING:
    from treadle.torch.capture_builder import Call


@captures("aten.linear")
def _linear(call: Call) -> str:
    x, bias = call.value("input"), call.optional("bias")
    if call.constant("weight") and call.constant("bias") and call.rank("weight") == 2:
        return call.emit("treadle.Linear", x, call.value("weight"), bias)
    weight = transposed(call, call.value("weight"), [1, 0][: call.rank("weight")])
    product = call.emit("MatMul", x, weight)
    return product if bias is None else call.emit("Add", product, bias)


@captures("aten.mm", "aten.bmm", "aten.matmul", "aten.mv", "aten.dot")
def _product(call: Call) -> str:
    names = list(call.arguments)[:2]
    if call.dtype != "float32":
        raise call.refuse(f"a product of {call.dtype} is not supported")
    return call.emit("MatMul", *[call.value(name, call.dtype) for name in names])


@captures("aten.addmm", "aten.baddbmm", "aten.addmv")
def _sum_and_product(call: Call) -> str:
    """Return beta self + alpha a b."""
    factors = [name for name in call.arguments if name in ("mat1", "mat2", "batch1", "batch2",
                                                            "mat", "vec")]  # fmt: skip
    product = call.emit("MatMul", *[call.value(name, "float32") for name in factors])
    if call["alpha"] != 1:
        product = call.emit("Mul", product, call.value("alpha", "float32"))
    if call["beta"] == 0:
        return product
    own = call.value("self", "float32")
    if call["beta"] != 1:
        own = call.emit("Mul", own, call.value("beta", "float32"))
    return call.emit("Add", product, own)


def _pair(found: Any, axes: int) -> list[int]:
    found = [found] if isinstance(found, int) else [int(size) for size in found]
    return found * axes if len(found) == 1 else found


@captures("aten.conv1d", "aten.conv2d", "aten.conv3d", "aten.conv_transpose1d",
          "aten.conv_transpose2d", "aten.conv_transpose3d", "aten.convolution")  # fmt: skip
def _conv(call: Call) -> str:
    axes, name = call.rank("weight") - 2, str(call.node.target)
    if axes == 3:
        raise call.refuse("a convolution of three axes is not supported")
    back = "transpose" in name or call.get("transposed") is True
    strides, dilations = (_pair(call[key], axes) for key in ("stride", "dilation"))
    kernel = [int(size) for size in call.shape("weight")[2:]]
    if isinstance(call["padding"], str):
        spread = [
            d * (k - 1) if call["padding"] == "same" else 0
            for d, k in zip(dilations, kernel, strict=True)
        ]
        pads = [n // 2 for n in spread] + [n - n // 2 for n in spread]
    else:
        pads = _pair(call["padding"], axes) * 2
    options: dict[str, Any] = {
        "kernel_shape": kernel, "strides": strides, "dilations": dilations, "pads": pads,
        "group": int(call["groups"]),
    }  # fmt: skip
    if back:
        options["output_padding"] = _pair(call["output_padding"], axes)
    own = "input"
    x, batched = call.value(own), call.rank(own) == axes + 2
    if not batched:
        x = call.emit("Unsqueeze", x, call.builder.integers([0]))
    op = "ConvTranspose" if back else "Conv"
    y = call.emit(op, x, call.value("weight"), call.optional("bias"), **options)
    return y if batched else call.emit("Squeeze", y, call.builder.integers([0]))


@captures("aten.batch_norm", "aten._native_batch_norm_legit_no_training",
          "aten._native_batch_norm_legit.no_stats", "aten.native_batch_norm",
          "aten._batch_norm_no_update")  # fmt: skip
def _batch_norm(call: Call) -> Any:
    name = str(call.node.target)
    if call.get("training") or "no_stats" in name or not call.has("running_mean"):
        raise call.refuse(
            "batch norm with the statistics of the batch (training, or track_running_stats=False) "
            "would mix the rows of a batch"
        )
    channels = call.shape("running_mean")
    scale, bias = (
        call.optional(key) or call.builder.constant(np.full(channels, value, np.float32))
        for key, value in (("weight", 1), ("bias", 0))
    )
    stats = call.value("running_mean"), call.value("running_var")
    y = call.emit(
        "BatchNormalization", call.value("input"), scale, bias, *stats, epsilon=float(call["eps"])
    )
    return y if name.startswith("aten.batch_norm") else (y, None, None, None, None)


@captures("aten.layer_norm", "aten.native_layer_norm")
def _layer_norm(call: Call) -> Any:
    shape = [int(expression(size)) for size in call["normalized_shape"]]
    scale = call.optional("weight") or call.builder.constant(np.ones(shape, np.float32))
    y = call.emit(
        "LayerNormalization",
        call.value("input"),
        scale,
        call.optional("bias"),
        axis=-len(shape),
        epsilon=float(call["eps"]),
    )
    return y if "native" not in str(call.node.target) else (y, None, None)


@captures("aten.rms_norm", "aten._fused_rms_norm")
def _rms_norm(call: Call) -> Any:
    axes = call.builder.integers(range(-len(call["normalized_shape"]), 0))
    x, eps = call.value("input"), call["eps"]
    eps = float(np.finfo(np.float32).eps) if eps is None else float(eps)
    mean = call.emit("ReduceMean", call.emit("Mul", x, x), axes, keepdims=1)
    root = call.emit("Sqrt", call.emit("Add", mean, number(call, eps)))
    y = call.emit("Div", x, root)
    weight = call.optional("weight")
    y = y if weight is None else call.emit("Mul", y, weight)
    return (y, None) if "fused" in str(call.node.target) else y


def _per_channel(call: Call, y: str, own: str) -> str:
    """Return y with the weight and the bias of each channel, the axis 1."""
    ends = call.builder.integers(range(1, call.rank(own) - 1))
    for name, op in (("weight", "Mul"), ("bias", "Add")):
        if call.has(name):
            value = call.value(name)
            if call.rank(own) > 2:
                value = call.emit("Unsqueeze", value, ends)
            y = call.emit(op, y, value)
    return y


@captures("aten.group_norm", "aten.native_group_norm")
def _group_norm(call: Call) -> Any:
    """Normalise each row of groups as an instance with one channel for each group."""
    own = "input"
    groups = call.get("num_groups", call.get("group"))
    x, ones = call.value(own), call.builder.constant(np.ones(groups, np.float32))
    zeros = call.builder.constant(np.zeros(groups, np.float32))
    parts = call.emit("Reshape", x, call.builder.integers([0, groups, -1]))
    eps = float(call["eps"])
    y = call.emit("InstanceNormalization", parts, ones, zeros, epsilon=eps)
    shape = call.shape(own)
    if sum(not known(size) for size in shape[1:]) > 1:
        y = call.emit("Reshape", y, call.builder.once("Shape", x))
    else:
        sizes = [expression(size) if known(size) else -1 for size in shape[1:]]
        y = call.emit("Reshape", y, call.builder.integers([0, *sizes]))
    y = _per_channel(call, y, own)
    return y if "native" not in str(call.node.target) else (y, None, None)


@captures("aten.instance_norm")
def _instance_norm(call: Call) -> str:
    channels = int(expression(call.shape("input")[1]))
    scale, bias = (
        call.optional(key) or call.builder.constant(np.full(channels, value, np.float32))
        for key, value in (("weight", 1), ("bias", 0))
    )
    x, eps = call.value("input"), float(call["eps"])
    if call["use_input_stats"]:
        return call.emit("InstanceNormalization", x, scale, bias, epsilon=eps)
    stats = call.value("running_mean"), call.value("running_var")
    return call.emit("BatchNormalization", x, scale, bias, *stats, epsilon=eps)


@captures("aten.upsample_nearest1d", "aten.upsample_nearest2d", "aten.upsample_linear1d",
          "aten.upsample_bilinear2d", "aten.upsample_bicubic2d")  # fmt: skip
def _resize(call: Call) -> str:
    name, shape = str(call.node.target), tuple(call.result.shape)
    if "bicubic" in name:
        raise call.refuse("bicubic resizing is not supported")
    own = "input" if "input" in call.arguments else "self"
    linear = "linear" in name
    aligned = linear and call["align_corners"]
    options = {
        "mode": "linear" if linear else "nearest",
        "coordinate_transformation_mode": "align_corners" if aligned
        else "half_pixel" if linear else "asymmetric",
        "nearest_mode": "floor",
    }  # fmt: skip
    factors = call.get("scale_factors")
    if factors is None:
        keys = [key for key in ("scales", "scales_h", "scales_w") if key in call.arguments]
        found = [call[key] for key in keys]
        factors = found if found and None not in found else None
    if factors is not None:
        scales = call.builder.constant(np.array([1, 1, *factors], np.float32))
        return call.emit("Resize", call.value(own), None, scales, **options)
    sizes = call["output_size"]
    rows = [size_of(call, call[own], axis) for axis in range(2)]
    sizes = vector(call, [*rows, *sizes]) if len(shape) == len(sizes) + 2 else None
    if sizes is None:
        raise call.refuse("its input has no batch")
    return call.emit("Resize", call.value(own), None, None, sizes, **options)

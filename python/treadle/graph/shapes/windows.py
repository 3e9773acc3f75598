"""These rules describe the outputs of convolutions, pooling, resizing and recurrent layers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from treadle.graph.padding import transposed_windows
from treadle.graph.shapes import dims
from treadle.graph.shapes.site import Site

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from treadle.graph.shapes.dims import Dim


def _window(site: Site, axis: int, size: Dim, taps: int, axes: int) -> Dim:
    """Return how many windows fit into an axis (ONNX operator specification, Conv and MaxPool)."""
    stride: int = (site.attribute("strides", None) or [1] * axes)[axis]
    reach: int = (taps - 1) * (site.attribute("dilations", None) or [1] * axes)[axis] + 1
    auto = site.attribute("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        return dims.floor_divide(dims.add(size, stride - 1), stride)
    pads = site.attribute("pads", None) or [0] * (2 * axes)
    both: int = 0 if auto == "VALID" else pads[axis] + pads[axis + axes]
    room = dims.add(size, both - reach)
    if not site.attribute("ceil_mode", 0):
        return dims.add(dims.floor_divide(room, stride), 1)
    if isinstance(room, str):
        return dims.fresh()
    count = -(-room // stride) + 1
    # A last window that would begin within the padding behind is left out.
    begin: int = 0 if auto == "VALID" else pads[axis]
    return count - 1 if (count - 1) * stride >= int(size) + begin else count


def _around(last: bool, shape: Sequence[Dim]) -> tuple[Dim, Sequence[Dim], Dim]:
    """Return the batch, the spatial sizes and the channels of a shape."""
    return (shape[0], shape[1:-1], shape[-1]) if last else (shape[0], shape[2:], shape[1])


def _put(site: Site, last: bool, sizes: tuple[Dim, Sequence[Dim], Dim], index: int = 0) -> None:
    batch, spatial, channels = sizes
    shape = (batch, *spatial, channels) if last else (batch, channels, *spatial)
    site.output(site[0].dtype, shape, index)


def conv(last: bool, weight: int, dtype: str | None, site: Site) -> None:
    """Describe a convolution, channels last or not; `weight` is the place of the weight."""
    shape, kernel = site[0].shape, site[weight].shape
    dtype = dtype or site[0].dtype
    rank = None if shape is None else len(shape)
    if shape is None or kernel is None or len(shape) != len(kernel) or len(shape) < 3:
        site.unknown(dtype, rank)
        return
    taps = kernel[1:-1] if last else kernel[2:]
    batch, spatial, _ = _around(last, shape)
    result: list[Dim] = []
    for axis, (size, tap) in enumerate(zip(spatial, taps, strict=True)):
        known = isinstance(tap, int)
        result.append(_window(site, axis, size, int(tap), len(taps)) if known else dims.fresh())
    sizes = (batch, *result, kernel[0]) if last else (batch, kernel[0], *result)
    site.output(dtype, sizes)


def conv_transpose(last: bool, site: Site) -> None:
    """Describe the output of a transposed convolution."""
    shape, kernel = site[0].shape, site[1].shape
    if shape is None or kernel is None or len(shape) != len(kernel) or len(shape) < 3:
        site.unknown(site[0].dtype, None if shape is None else len(shape))
        return
    taps = kernel[1:-1] if last else kernel[2:]
    batch, spatial, _ = _around(last, shape)
    known = [tap for tap in taps if isinstance(tap, int)]
    windows = (
        transposed_windows("", site.node.attributes, known, spatial)
        if len(known) == len(taps)
        else None
    )
    fixed = site.attribute("output_shape", None)
    result: list[Dim] = []
    for place, size in enumerate(spatial):
        if fixed:
            result.append(fixed[place])
        elif windows is None:
            result.append(dims.fresh())
        else:
            axis = windows.axes[place]
            more = axis.span - axis.stride - axis.before - axis.after
            result.append(dims.add(dims.multiply([size, axis.stride]), more))
    group = site.attribute("group", 1)
    channels = dims.multiply([kernel[-1] if last else kernel[1], group])
    _put(site, last, (batch, result, channels))


def pool(last: bool, site: Site) -> None:
    """Describe pooling over windows; the indices of MaxPool have the shape of its output."""
    shape, taps = site[0].shape, site.attribute("kernel_shape", None)
    if shape is None or not taps or len(shape) != len(taps) + 2:
        site.unknown(site[0].dtype, None if shape is None else len(shape))
        return
    batch, spatial, channels = _around(last, shape)
    result = [
        _window(site, axis, size, tap, len(taps))
        for axis, (size, tap) in enumerate(zip(spatial, taps, strict=True))
    ]
    for index in range(len(site.node.outputs)):
        _put(site, last, (batch, result, channels), index)


def global_pool(last: bool, site: Site) -> None:
    """Describe the output of pooling over all of the spatial axes."""
    shape = site[0].shape
    if shape is None or len(shape) < 2:
        return
    batch, spatial, channels = _around(last, shape)
    _put(site, last, (batch, [1] * len(spatial), channels))


def resize(site: Site) -> None:
    """Describe the output of Resize: sizes are followed, scales are not."""
    shape, sizes = site[0].shape, site[3].elements
    plain = not site.attribute("axes", None) and site.attribute(
        "keep_aspect_ratio_policy", "stretch"
    ) in ("stretch", "")
    if shape is not None and sizes is not None and plain and len(sizes) == len(shape):
        site.output(site[0].dtype, sizes)
    else:
        site.unknown(site[0].dtype, None if shape is None else len(shape))


def recurrent(states: int, site: Site) -> None:
    """Describe RNN, GRU and LSTM: Y is [T, R, B, H], or [B, T, R, H] with layout 1."""
    shape, weights = site[0].shape, site[2].shape
    if shape is None or weights is None or len(shape) != 3 or len(weights) != 3:
        return
    directions, hidden = weights[0], weights[2]
    if site.attribute("layout", 0):
        batch, time = shape[0], shape[1]
        site.output(site[0].dtype, (batch, time, directions, hidden))
        state = (batch, directions, hidden)
    else:
        time, batch = shape[0], shape[1]
        site.output(site[0].dtype, (time, directions, batch, hidden))
        state = (directions, batch, hidden)
    for index in range(1, states + 1):
        site.output(site[0].dtype, state, index)


def quantized_lstm(site: Site) -> None:
    """Describe the outputs of treadle.DynamicQuantizeLSTM, whose R is [D, H, 4 H]."""
    shape, weights = site[0].shape, site[2].shape
    if shape is None or len(shape) != 3 or weights is None or len(weights) != 3:
        return
    directions, hidden, _ = weights
    site.output("float32", (shape[0], directions, shape[1], hidden))
    for index in (1, 2):
        site.output("float32", (directions, shape[1], hidden), index)


def treadle_recurrent(site: Site) -> None:
    """Describe the output of treadle.Recurrent."""
    shape = site[0].shape
    if shape is None or len(shape) != 3:
        return
    directions = 2 if site.attribute("direction", "forward") == "bidirectional" else 1
    hidden = site.attribute("hidden_size", None)
    if hidden is None:
        return
    state = site.attribute("proj_size", 0) or hidden
    time, batch, _ = reversed_pair(shape, bool(site.attribute("batch_first", 0)))
    both = (batch, time) if site.attribute("batch_first", 0) else (time, batch)
    site.output(site[0].dtype, (*both, directions * state))
    rows = site.attribute("num_layers", 1) * directions
    site.output(site[0].dtype, (rows, batch, state), 1)
    if site.attribute("mode", "") == "lstm":
        site.output(site[0].dtype, (rows, batch, hidden), 2)


def reversed_pair(shape: Sequence[Dim], batch_first: bool) -> tuple[Dim, Dim, Dim]:
    """Return time, batch and features of a sequence."""
    first, second, third = shape
    return (second, first, third) if batch_first else (first, second, third)


RULES: dict[str, Callable[[Site], None]] = {
    "Conv": partial(conv, False, 1, None),
    "ConvInteger": partial(conv, False, 1, "int32"),
    "QLinearConv": partial(conv, False, 3, None),
    "treadle.Conv": partial(conv, True, 1, None),
    "ConvTranspose": partial(conv_transpose, False),
    "treadle.ConvTranspose": partial(conv_transpose, True),
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool"), partial(pool, False)),
    **dict.fromkeys(("treadle.MaxPool", "treadle.AveragePool"), partial(pool, True)),
    **dict.fromkeys(
        ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"), partial(global_pool, False)
    ),
    **dict.fromkeys(
        ("treadle.GlobalAveragePool", "treadle.GlobalMaxPool"), partial(global_pool, True)
    ),
    "Resize": resize,
    "treadle.Resize": resize,
    "LSTM": partial(recurrent, 2),
    "GRU": partial(recurrent, 1),
    "RNN": partial(recurrent, 1),
    "treadle.Recurrent": treadle_recurrent,
    "treadle.DynamicQuantizeLSTM": quantized_lstm,
}

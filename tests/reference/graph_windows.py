"""Convolutions, pooling and what works on channels, in float64 NumPy, for `reference.graph`."""

import numpy as np


def conv(attributes, x, weight, bias=None):
    """x [B, C, spatial..], weight [D, C / g, taps..], tap by tap."""
    axes = x.ndim - 2
    strides = attributes.get("strides", [1] * axes)
    dilations = attributes.get("dilations", [1] * axes)
    pads, groups = attributes.get("pads", [0] * 2 * axes), attributes.get("group", 1)
    x = np.pad(x, [(0, 0), (0, 0), *zip(pads[:axes], pads[axes:], strict=True)])
    taps = weight.shape[2:]
    reach = [(t - 1) * d + 1 for t, d in zip(taps, dilations, strict=True)]
    spatial = [(n - r) // s + 1 for n, r, s in zip(x.shape[2:], reach, strides, strict=True)]
    y = np.zeros((x.shape[0], weight.shape[0], *spatial))
    for tap in np.ndindex(*taps):
        cut = tuple(
            slice(t * d, t * d + (n - 1) * s + 1, s)
            for t, d, n, s in zip(tap, dilations, spatial, strides, strict=True)
        )
        part = x[(slice(None), slice(None), *cut)]
        for g in range(groups):
            rows = slice(g * weight.shape[0] // groups, (g + 1) * weight.shape[0] // groups)
            columns = slice(g * weight.shape[1], (g + 1) * weight.shape[1])
            matrix = weight[(rows, slice(None), *tap)]
            y[:, rows] += np.einsum("dc,bc...->bd...", matrix, part[:, columns])
    return y if bias is None else y + bias.reshape(-1, *[1] * axes)


def conv_transpose(attributes, x, weight, bias=None):
    """x [B, C, spatial..], weight [C, D / g, taps..]: every input is scattered over its taps."""
    axes = x.ndim - 2
    strides = attributes.get("strides", [1] * axes)
    dilations = attributes.get("dilations", [1] * axes)
    pads, groups = attributes.get("pads", [0] * 2 * axes), attributes.get("group", 1)
    extra = attributes.get("output_padding", [0] * axes)
    taps, d = weight.shape[2:], weight.shape[1]
    sizes = [
        (n - 1) * s + (t - 1) * l + 1 + e
        for n, s, t, l, e in zip(x.shape[2:], strides, taps, dilations, extra, strict=True)
    ]
    y = np.zeros((x.shape[0], d * groups, *sizes))
    c = x.shape[1] // groups
    for tap in np.ndindex(*taps):
        cut = tuple(
            slice(t * l, t * l + (n - 1) * s + 1, s)
            for t, l, n, s in zip(tap, dilations, x.shape[2:], strides, strict=True)
        )
        for g in range(groups):
            matrix = weight[(slice(g * c, (g + 1) * c), slice(None), *tap)]
            part = np.einsum("cd,bc...->bd...", matrix, x[:, g * c : (g + 1) * c])
            y[(slice(None), slice(g * d, (g + 1) * d), *cut)] += part
    inside = [slice(b, n - e) for b, e, n in zip(pads[:axes], pads[axes:], sizes, strict=True)]
    y = y[(slice(None), slice(None), *inside)]
    return y if bias is None else y + bias.reshape(-1, *[1] * axes)


def pool(attributes, x, reduce):
    """x [B, C, spatial..]; a padded position takes part neither in a maximum nor in a mean."""
    taps = attributes["kernel_shape"]
    axes = len(taps)
    strides, pads = attributes.get("strides", [1] * axes), attributes.get("pads", [0] * 2 * axes)
    wide = np.pad(
        x, [(0, 0), (0, 0), *zip(pads[:axes], pads[axes:], strict=True)], constant_values=np.nan
    )
    sizes = [(n - t) // s + 1 for n, t, s in zip(wide.shape[2:], taps, strides, strict=True)]
    y = np.zeros((*x.shape[:2], *sizes))
    for place in np.ndindex(*sizes):
        cut = tuple(slice(p * s, p * s + t) for p, s, t in zip(place, strides, taps, strict=True))
        window = wide[(slice(None), slice(None), *cut)]
        y[(slice(None), slice(None), *place)] = reduce(window, tuple(range(2, 2 + axes)))
    return y


def last(function):
    """The channels-last form of an operator over x [B, spatial.., C]."""

    def run_last(attributes, x, *rest):
        y = function(attributes, np.moveaxis(x, -1, 1), *rest)
        return np.moveaxis(y, 1, -1)

    return run_last


def batch_norm(attributes, x, scale, bias, mean, var):
    shape = (-1, *[1] * (x.ndim - 2))
    scale, bias, mean, var = (a.reshape(shape) for a in (scale, bias, mean, var))
    return (x - mean) / np.sqrt(var + attributes.get("epsilon", 1e-5)) * scale + bias


def instance_norm(attributes, x, scale, bias):
    axes = tuple(range(2, x.ndim))
    shape = (-1, *[1] * len(axes))
    mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    y = (x - mean) / np.sqrt(var + attributes.get("epsilon", 1e-5))
    return y * scale.reshape(shape) + bias.reshape(shape)


def resize(attributes, x, roi=None, scales=None, sizes=None):
    """Resize to the nearest, by whole factors: enough for the layout."""
    if sizes is None or not sizes.size:
        sizes = [int(n * s) for n, s in zip(x.shape, scales, strict=True)]
    for axis, size in enumerate(sizes):
        x = np.repeat(x, int(size) // x.shape[axis], axis)
    return x


def largest(x, axes):
    return np.nanmax(x, axis=axes)


def mean(x, axes):
    return np.nanmean(x, axis=axes)

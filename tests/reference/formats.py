"""NumPy definitions of products in bfloat16 and int8 (cpp/kernels/table.h)."""

import numpy as np

BLOCK = 256  # numbers along k that share their scales
F32 = np.float32


def bfloat16(x):
    """The nearest bfloat16, even in the middle, as float32."""
    bits = np.ascontiguousarray(x, F32).view(np.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
    return np.where(np.isnan(x), F32(np.nan), rounded.astype(np.uint32).view(F32))


def quantized_rows(x):
    """Rows [M, k] of a block: (numbers 0..255, zero [M], scale [M]); x = scale (integer - zero)."""
    low, high = np.minimum(x.min(axis=1), 0), np.maximum(x.max(axis=1), 0)
    part = F32(1) / F32(255)
    scale = (high * part - low * part).astype(F32)
    with np.errstate(divide="ignore"):
        inverse = np.where(scale >= 2.0**-126, F32(1) / scale, F32(0)).astype(F32)
    zero = np.rint(-low * inverse)
    integers = np.clip(np.rint(x * inverse[:, None]) + zero[:, None], 0, 255)
    return integers.astype(int), zero.astype(int), np.where(inverse > 0, scale, F32(0))


def quantized_weights(w):
    """Rows [N, k] of one block: (integers -127..127, scale [N])."""
    scale = (np.abs(w).max(axis=1) / F32(127)).astype(F32)
    scale = np.where(scale < 2.0**-126, F32(0), scale)
    divisor = np.where(scale > 0, scale, F32(1))[:, None]
    return np.clip(np.rint(w / divisor), -127, 127).astype(int) * (scale > 0)[:, None], scale


def product_int8(x, w):
    """x [M, K] times the rows of w [N, K] in float64, of the integers that both become."""
    y = np.zeros((len(x), len(w)))
    for k in range(0, x.shape[1], BLOCK):
        q, zero, scale = quantized_rows(x[:, k : k + BLOCK])
        p, other = quantized_weights(w[:, k : k + BLOCK])
        y += np.outer(scale.astype(float), other) * ((q - zero[:, None]) @ p.T)
    return y

"""STFT with a constant window becomes a product over frames: a convolution of one channel.

    y[b, t, k] = sum_n window[n] x[b, step t + n] exp(-2 pi i n k / N),    k <= N / 2 if onesided

The real and the imaginary parts of frequency k are the outputs 2 k and 2 k + 1 of a treadle.Conv
over x [B, L, 1] with the taps window[n] cos(2 pi n k / N) and -window[n] sin(2 pi n k / N).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from treadle.graph.ir import Node

if TYPE_CHECKING:
    from treadle.graph.view import View

MOST_FRAME = 1 << 14  # the taps take N^2 floats


def fuse(view: View) -> int:
    """Fuse every STFT of a real signal; return how many."""
    return sum(_fuse(view, node) for node in view.nodes("STFT"))


def _fuse(view: View, node: Node) -> bool:
    signal, step_name, window_name, length_name = (*node.inputs, "", "")[:4]
    shape, step = view.known(signal).shape, view.integers(step_name)
    if not view.is_float(signal) or shape is None or not step or step[0] < 1:
        return False
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] != 1):
        return False  # a signal of complex numbers
    window = view.constant(window_name) if window_name else None
    given = view.integers(length_name) if length_name else None
    if window is not None and (window.dtype != np.float32 or window.ndim != 1):
        return False
    frame = given[0] if given else (0 if window is None else window.size)
    if not 1 <= frame <= MOST_FRAME or (window_name and (window is None or window.size != frame)):
        return False
    onesided = node.attributes.get("onesided", 1) != 0
    bins = frame // 2 + 1 if onesided else frame
    taps = view.add_constant(f"{node.outputs[0]}.taps", _taps(frame, bins, window))
    columns = view.add_constant(f"{node.outputs[0]}.columns", np.array([0, -1, 1], np.int64))
    pairs = view.add_constant(f"{node.outputs[0]}.pairs", np.array([0, -1, bins, 2], np.int64))
    x, y = view.new_name(f"{signal}.column"), view.new_name(f"{node.outputs[0]}.frames")
    new = [
        Node("Reshape", [signal, columns], [x], {}, node.name),
        Node("treadle.Conv", [x, taps], [y], {"strides": [step[0]]}, node.name),
        Node("Reshape", [y, pairs], [node.outputs[0]], {}, node.name),
    ]
    view.replace([node], new, node)
    return True


def _taps(frame: int, bins: int, window: np.ndarray | None) -> np.ndarray:
    """Return the weight [2 bins, N, 1]. Angles are reduced before they are rounded."""
    turns = np.outer(np.arange(bins), np.arange(frame)) % frame / frame
    waves = np.stack([np.cos(2 * np.pi * turns), -np.sin(2 * np.pi * turns)], axis=1)
    if window is not None:
        waves *= window.astype(np.float64)
    return waves.reshape(2 * bins, frame, 1).astype(np.float32)

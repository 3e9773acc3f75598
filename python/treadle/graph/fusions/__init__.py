"""This package has the fusions: one file for each pattern that becomes one operator.

A fusion is a function `fuse(view)` that changes a graph and returns how often. It may change
results by rounding and nothing else: every node that it takes out is read by the pattern alone,
dtypes and shapes that it relies on are known, and constants that it makes are finite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from treadle.graph.fusions import (
    affine_conv,
    attention,
    batch_norm,
    conv_affine,
    epilogue,
    gelu,
    gru_cell,
    hard_swish,
    layer_norm,
    linear,
    lstm_cell,
    magnitude,
    recurrent,
    recurrent_stack,
    recurrent_steps,
    reshape_target,
    rnn_cell,
    silu,
    softmax,
    stft,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from treadle.graph.view import View

    Fusion = Callable[[View], int]

# The order matters: an epilogue is one of the activations that other fusions have put together.
BEFORE_LAYOUT: dict[str, Fusion] = {
    "reshape": reshape_target.fuse,
    "stft": stft.fuse,
    "softmax": softmax.fuse,
    "layer norm": layer_norm.fuse,
    "gelu": gelu.fuse,
    "silu": silu.fuse,
    "hard swish": hard_swish.fuse,
    "conv + affine": conv_affine.fuse,
    "batch norm": batch_norm.fuse,
    "affine + conv": affine_conv.fuse,
    "magnitude": magnitude.fuse,
    "linear": linear.fuse,
    "attention": attention.fuse,
    "recurrent": recurrent.fuse,
    "lstm cell": lstm_cell.fuse,
    "gru cell": gru_cell.fuse,
    "rnn cell": rnn_cell.fuse,
}
AFTER_LAYOUT: dict[str, Fusion] = {
    "recurrent steps": recurrent_steps.fuse,
    "recurrent stack": recurrent_stack.fuse,
    "epilogue": epilogue.fuse,
}

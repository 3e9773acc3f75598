"""The layers as functions of their weights and inputs, in PyTorch's names and shapes.

recurrent    rnn, lstm, gru and their cells
backward     _forward and _backward of rnn, lstm, gru and scaled_dot_product_attention
product      linear
conv         conv1d, conv2d, conv_transpose1d, conv_transpose2d
attention    scaled_dot_product_attention
pointwise    layer_norm, embedding_sum
crf          crf_decode
norms        batch_norm, group_norm, instance_norm
pooling      max_pool1d, max_pool2d, avg_pool1d, ..., adaptive_max_pool2d
images       interpolate, pad
activations  relu, tanh, sigmoid, gelu, silu, ...; softmax, log_softmax

Functions that take weights pack them in every call (the recurrent ones keep the packing of weights
that are read-only); where the same weights are used again, a module (`treadle.LSTM`,
`treadle.Linear`, ...) packs them once. All arrays are float32; any other dtype raises
TypeError, and a shape or value that does not fit raises ValueError.
"""

from typing import TYPE_CHECKING

from treadle._places import FUNCTIONAL
from treadle._public import imported_later

if TYPE_CHECKING:
    from treadle.functional.activations import (
        affine,
        elu,
        gelu,
        hard_sigmoid,
        hard_swish,
        hard_tanh,
        leaky_relu,
        log_softmax,
        relu,
        relu6,
        scaled_tanh,
        sigmoid,
        silu,
        softmax,
        softplus,
        softsign,
        tanh,
        thresholded_relu,
    )
    from treadle.functional.attention import scaled_dot_product_attention
    from treadle.functional.attention_backward import (
        SavedAttention,
        scaled_dot_product_attention_backward,
        scaled_dot_product_attention_forward,
    )
    from treadle.functional.backward import (
        gru_backward,
        gru_forward,
        lstm_backward,
        lstm_forward,
        rnn_backward,
        rnn_forward,
    )
    from treadle.functional.conv import conv1d, conv2d, conv_transpose1d, conv_transpose2d
    from treadle.functional.crf import crf_decode
    from treadle.functional.images import interpolate, pad
    from treadle.functional.norms import batch_norm, group_norm, instance_norm
    from treadle.functional.pointwise import embedding_sum, layer_norm
    from treadle.functional.pooling import (
        adaptive_avg_pool1d,
        adaptive_avg_pool2d,
        adaptive_max_pool1d,
        adaptive_max_pool2d,
        avg_pool1d,
        avg_pool2d,
        max_pool1d,
        max_pool2d,
    )
    from treadle.functional.product import linear
    from treadle.functional.recurrent import gru, gru_cell, lstm, lstm_cell, rnn, rnn_cell
    from treadle.functional.saved import Saved

__all__ = [
    "Saved",
    "SavedAttention",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "affine",
    "avg_pool1d",
    "avg_pool2d",
    "batch_norm",
    "conv1d",
    "conv2d",
    "conv_transpose1d",
    "conv_transpose2d",
    "crf_decode",
    "elu",
    "embedding_sum",
    "gelu",
    "group_norm",
    "gru",
    "gru_backward",
    "gru_cell",
    "gru_forward",
    "hard_sigmoid",
    "hard_swish",
    "hard_tanh",
    "instance_norm",
    "interpolate",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log_softmax",
    "lstm",
    "lstm_backward",
    "lstm_cell",
    "lstm_forward",
    "max_pool1d",
    "max_pool2d",
    "pad",
    "relu",
    "relu6",
    "rnn",
    "rnn_backward",
    "rnn_cell",
    "rnn_forward",
    "scaled_dot_product_attention",
    "scaled_dot_product_attention_backward",
    "scaled_dot_product_attention_forward",
    "scaled_tanh",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "softsign",
    "tanh",
    "thresholded_relu",
]

if not TYPE_CHECKING:  # a type checker reads the imports above
    __getattr__ = imported_later(__name__, FUNCTIONAL)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

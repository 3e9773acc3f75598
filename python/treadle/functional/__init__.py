"""The layers as functions of their weights and inputs, in PyTorch's names and shapes.

recurrent  rnn, lstm, gru and their cells
backward   rnn, lstm, gru, scaled_dot_product_attention: _forward, which saves what _backward needs
product    linear, conv1d
attention  scaled_dot_product_attention
pointwise  layer_norm, softmax, gelu, silu, relu, embedding_sum

Functions that take weights pack them in every call (the recurrent ones keep the packing of weights
that are read-only); where the same weights are used again, a module (`treadle.LSTM`,
`treadle.MultiheadAttention`, ...) packs them once. All arrays are float32; any other dtype raises
TypeError, and a shape or value that does not fit raises ValueError.
"""

from treadle._public import publish
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
from treadle.functional.pointwise import embedding_sum, gelu, layer_norm, relu, silu, softmax
from treadle.functional.product import conv1d, linear
from treadle.functional.recurrent import gru, gru_cell, lstm, lstm_cell, rnn, rnn_cell
from treadle.functional.saved import Saved

__all__ = [
    "Saved",
    "SavedAttention",
    "conv1d",
    "embedding_sum",
    "gelu",
    "gru",
    "gru_backward",
    "gru_cell",
    "gru_forward",
    "layer_norm",
    "linear",
    "lstm",
    "lstm_backward",
    "lstm_cell",
    "lstm_forward",
    "relu",
    "rnn",
    "rnn_backward",
    "rnn_cell",
    "rnn_forward",
    "scaled_dot_product_attention",
    "scaled_dot_product_attention_backward",
    "scaled_dot_product_attention_forward",
    "silu",
    "softmax",
]

publish(__name__, globals(), __all__)

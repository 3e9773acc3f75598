"""treadle: recurrent nets and transformer encoders on the CPU, run close to what the CPU can do.

RNN, LSTM and GRU, over whole sequences or step by step; attention and transformer encoders; their
parts in `treadle.functional`. BERT-family checkpoints and sentence embeddings are in
`treadle.transformers`, modules that train under PyTorch in `treadle.torch`; both are imported when
asked for. Names, arguments and weights are PyTorch's.

>>> import numpy as np, treadle
>>> lstm = treadle.LSTM(128, 128, seed=0)
>>> y, (h_n, c_n) = lstm(np.zeros((100, 1, 128), np.float32))
>>> stream = lstm.stream()
>>> stream.step(np.zeros((1, 128), np.float32)).shape
(1, 128)
>>> layer = treadle.TransformerEncoderLayer(64, 4, 256, batch_first=True, seed=0)
>>> treadle.TransformerEncoder(layer, 2)(np.zeros((1, 10, 64), np.float32)).shape
(1, 10, 64)
"""

from typing import TYPE_CHECKING

try:
    from treadle import _core as _core
except ImportError as error:
    if str(error).startswith("treadle: "):  # it says what to do
        raise
    raise ImportError(
        f"treadle: the compiled module treadle._core cannot be loaded ({error}). "
        "Install the package first: `pip install .` in its source folder, "
        "and start Python elsewhere than in that folder's python/."
    ) from error

from treadle._places import PUBLIC
from treadle._public import imported_later
from treadle._version import __version__

if TYPE_CHECKING:
    from treadle import functional as functional
    from treadle import inspection as inspection
    from treadle.graph.model import Model
    from treadle.graph.saving import load, save
    from treadle.inspection import trace
    from treadle.layers.activation_layers import (
        ELU,
        GELU,
        Hardsigmoid,
        Hardswish,
        Hardtanh,
        LeakyReLU,
        ReLU,
        ReLU6,
        Sigmoid,
        SiLU,
        Softplus,
        Softsign,
        Tanh,
    )
    from treadle.layers.adaptive_pooling import (
        AdaptiveAvgPool1d,
        AdaptiveAvgPool2d,
        AdaptiveMaxPool1d,
        AdaptiveMaxPool2d,
    )
    from treadle.layers.attention import MultiheadAttention
    from treadle.layers.batch_norm import BatchNorm1d, BatchNorm2d
    from treadle.layers.cells import GRUCell, LSTMCell, RNNCell
    from treadle.layers.conv import Conv1d, Conv2d
    from treadle.layers.conv_transpose import ConvTranspose1d, ConvTranspose2d
    from treadle.layers.elementwise import Flatten, Identity, LogSoftmax, Softmax, Transpose
    from treadle.layers.embedding import Embedding
    from treadle.layers.group_norm import GroupNorm
    from treadle.layers.instance_norm import InstanceNorm1d, InstanceNorm2d
    from treadle.layers.kv_cache import KVCache
    from treadle.layers.linear import Linear
    from treadle.layers.norm import LayerNorm
    from treadle.layers.padding import ZeroPad1d, ZeroPad2d
    from treadle.layers.pooling import AvgPool1d, AvgPool2d, MaxPool1d, MaxPool2d
    from treadle.layers.recurrent import GRU, LSTM, RNN
    from treadle.layers.resizing import Upsample
    from treadle.layers.sequential import Sequential
    from treadle.layers.stream import Stream
    from treadle.layers.stream_pool import PooledStream, StreamPool
    from treadle.layers.transformer import TransformerEncoder, TransformerEncoderLayer
    from treadle.runtime import available_isas, get_num_threads, isa, set_num_threads
    from treadle.seq2seq.module import Seq2Seq
    from treadle.torch import from_torch

__all__ = [
    "ELU",
    "GELU",
    "GRU",
    "LSTM",
    "RNN",
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AvgPool1d",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv1d",
    "Conv2d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "Embedding",
    "Flatten",
    "GRUCell",
    "GroupNorm",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "Identity",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "KVCache",
    "LSTMCell",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "MaxPool1d",
    "MaxPool2d",
    "Model",
    "MultiheadAttention",
    "PooledStream",
    "RNNCell",
    "ReLU",
    "ReLU6",
    "Seq2Seq",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Softsign",
    "Stream",
    "StreamPool",
    "Tanh",
    "TransformerEncoder",
    "TransformerEncoderLayer",
    "Transpose",
    "Upsample",
    "ZeroPad1d",
    "ZeroPad2d",
    "__version__",
    "available_isas",
    "from_torch",
    "functional",
    "get_num_threads",
    "isa",
    "load",
    "save",
    "set_num_threads",
    "trace",
]

if not TYPE_CHECKING:  # a type checker reads the imports above
    __getattr__ = imported_later(__name__, PUBLIC, ("functional", "inspection"))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""PyTorch as a guest: its modules become treadle's, or run and train on treadle's kernels.

convert       `treadle.from_torch`
modules       LSTM, GRU and RNN: nn.Modules with torch's parameters and treadle's kernels
cells         LSTMCell, GRUCell and RNNCell, likewise
attention     scaled_dot_product_attention, and what runs it
attention_ops  attention for graphs and modes of PyTorch
multihead     MultiheadAttention
seq2seq       Seq2Seq: an encoder and a recurrent decoder with attention
crf           CRF: the log-likelihood of sequences of tags
fast_path     why PyTorch's encoder layer calls treadle's attention
models        `accelerate` and `restore` for whole models
mask_patterns  the masks that lengths and causality can replace
classes       the class that a module gets by `accelerate`, also one of a user's subclass
dynamo        what lets torch.compile take modules that derive from torch.nn.LSTM
transformers_attention  `register_attention` for the models of Transformers
transformers_classes    which of these would never call it
weight_cache  the weights of recurrent layers: read where they lie, or packed where they changed
autograd      one recurrent layer for autograd
ops           one recurrent layer for graphs and modes of PyTorch
formula       both of PyTorch's operators, for derivatives and batches that the kernels do not have
formula_activations  the activations in it
tools         what PyTorch's fx, torch.jit.script, quantization and FLOP counters ask modules
fallback      why the kernels cannot run, and the warning that other code does instead
tensors       the type of a tensor, and the array in its memory
capture_module  `capture`: a module becomes a model that needs no PyTorch
capture_signature  the names of its inputs and outputs
capture_axes  which axes have sizes of any number
capture_program  torch.export records it, or it is said in plain words why not
capture_recurrent  what keeps recurrent layers and packed sequences whole meanwhile
capture_graph  the recorded program becomes a graph
capture_builder  what writes the graph's nodes, and the table of operators
capture_sizes  operators of the table that tell and compute sizes
capture_pointwise    ... that compute element by element
capture_activations  ... activations and softmax
capture_movement     ... that move numbers: views, joins, cuts, padding
capture_indexing     ... that read and write at indices, and what sorts
capture_creation     ... that make tensors
capture_reductions   ... that reduce axes and add up along them
capture_layers       ... products, convolutions and norms
capture_pooling      ... pooling
capture_sequences    ... recurrent layers and attention, each whole

Nothing else in the package imports PyTorch, and this does so only where it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from treadle.torch.convert import from_torch

_MODULES = {
    "LSTM": "modules",
    "GRU": "modules",
    "RNN": "modules",
    "LSTMCell": "cells",
    "GRUCell": "cells",
    "RNNCell": "cells",
    "MultiheadAttention": "multihead",
    "Seq2Seq": "seq2seq",
    "CRF": "crf",
    "scaled_dot_product_attention": "attention",
    "register_attention": "transformers_attention",
    "accelerate": "models",
    "restore": "models",
    "Report": "models",
    "capture": "capture_module",
}

__all__ = [
    "CRF",
    "GRU",
    "LSTM",
    "RNN",
    "GRUCell",
    "LSTMCell",
    "MultiheadAttention",
    "RNNCell",
    "Report",
    "Seq2Seq",
    "accelerate",
    "capture",
    "from_torch",
    "register_attention",
    "restore",
    "scaled_dot_product_attention",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        import_module("torch")
    except ImportError as error:
        raise ImportError(
            f"treadle.torch.{name}: PyTorch cannot be imported ({error}); "
            "pip install treadle[torch]"
        ) from error
    return getattr(import_module(f"treadle.torch.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

"""This module has treadle's activations as functions of PyTorch's operators, for formulas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as nn

from treadle.layers.activation import parse

if TYPE_CHECKING:
    from collections.abc import Callable

    from treadle.layers.activation import Activation
    from treadle.torch.tensors import TensorLike

# Each function takes x and the two parameters of the activation.
_FUNCTIONS: dict[str, Callable[[Any, float, float], Any]] = {
    "tanh": lambda x, a, b: x.tanh(),
    "sigmoid": lambda x, a, b: x.sigmoid(),
    "relu": lambda x, a, b: x.relu(),
    "linear": lambda x, a, b: x,
    "softsign": lambda x, a, b: nn.softsign(x),
    "softplus": lambda x, a, b: torch.logaddexp(x, x.new_zeros(())),
    "hard_sigmoid": lambda x, a, b: (a * x + b).clamp(0, 1),
    "elu": lambda x, a, b: nn.elu(x, a),
    "leaky_relu": lambda x, a, b: nn.leaky_relu(x, a),
    "thresholded_relu": lambda x, a, b: nn.threshold(x, a, 0),
    "affine": lambda x, a, b: a * x + b,
    "scaled_tanh": lambda x, a, b: a * (b * x).tanh(),
    "gelu": lambda x, a, b: nn.gelu(x),
    "gelu_tanh": lambda x, a, b: nn.gelu(x, approximate="tanh"),
    "silu": lambda x, a, b: nn.silu(x),
    "hard_swish": lambda x, a, b: nn.hardswish(x),
    "clip": nn.hardtanh,
}


def function(activation: Activation) -> Callable[[TensorLike], TensorLike]:
    """Return an activation as a function of a tensor.

    >>> import torch
    >>> function(("leaky_relu", 0.5))(torch.tensor([-2.0, 2.0]))
    tensor([-1.,  2.])
    """
    name, alpha, beta = parse("treadle.torch", "activation", activation)
    apply = _FUNCTIONS[name]
    return lambda x: apply(x, alpha, beta)

"""This module has treadle's classes of Keras' layers, and finds the class that a layer becomes.

A class of keras.layers becomes the class of the same name here. A program's own subclass of it
becomes a class of its own name that derives from both: the subclass, then treadle's, so that its
``super()`` finds treadle's methods. Files name the class that Keras knows, and load without
treadle.
"""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any, TypeVar

import keras
from keras.src import api_export
from keras.src.saving import object_registration

from treadle._public import published
from treadle.keras.attention import Attention
from treadle.keras.bidirectional import BothDirections
from treadle.keras.quantize import Quantized, hide_quantize, show_quantize
from treadle.keras.recurrent import Recurrent

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T", bound=type)

CLASSES: dict[type, type] = {}
"""Keras' classes, with treadle's."""

_REPLACED = ("inner_loop", "_compute_attention")
"""The methods of Keras that treadle's replace: a subclass with one of its own keeps it."""


def _replaces(theirs: type) -> Callable[[_T], _T]:
    """Return a decorator for treadle's class: Keras writes its own class's name into files."""

    def mark(ours: _T) -> _T:
        CLASSES[theirs] = ours
        api_export.REGISTERED_OBJS_TO_NAMES[ours] = f"keras.layers.{theirs.__name__}"
        return published("treadle.keras.layers")(ours)

    return mark


@_replaces(keras.layers.SimpleRNN)
class SimpleRNN(Recurrent, keras.layers.SimpleRNN):
    """keras.layers.SimpleRNN on treadle's kernels, forward and backward.

    Constructor, weights, methods and the file of a saved model are Keras'. With x_t a step of the
    input [B, T, I] and h the state [B, H]::

        h_t = act(x_t kernel + h_{t-1} recurrent_kernel + bias)

    `treadle.keras.accelerate` says when Keras' own code runs instead, with a warning.

    Examples
    --------
    >>> import numpy as np, treadle.keras
    >>> layer = treadle.keras.layers.SimpleRNN(16, activation="relu")
    >>> layer(np.zeros((3, 5, 8), np.float32)).shape
    torch.Size([3, 16])
    """


@_replaces(keras.layers.LSTM)
class LSTM(Recurrent, keras.layers.LSTM):
    """keras.layers.LSTM on treadle's kernels, forward and backward.

    Constructor, weights, methods and the file of a saved model are Keras'. With x_t a step of the
    input [B, T, I], the states h and c [B, H], and z = x_t kernel + h_{t-1} recurrent_kernel + bias
    split into four parts::

        c_t = rec(z_f) * c_{t-1} + rec(z_i) * act(z_c)
        h_t = rec(z_o) * act(c_t)

    `treadle.keras.accelerate` says when Keras' own code runs instead, with a warning.

    Examples
    --------
    >>> import numpy as np, keras, treadle.keras
    >>> model = keras.Sequential(
    ...     [keras.Input((100, 1)), treadle.keras.layers.LSTM(50), keras.layers.Dense(1)]
    ... )
    >>> model.compile("adam", "mse")
    >>> series = np.zeros((64, 100, 1), np.float32)
    >>> history = model.fit(series, series[:, -1], epochs=2, verbose=0)
    >>> model.layers[0].get_config()["units"]
    50
    """


@_replaces(keras.layers.GRU)
class GRU(Recurrent, keras.layers.GRU):
    """keras.layers.GRU on treadle's kernels, forward and backward.

    Constructor, weights, methods and the file of a saved model are Keras'. With x_t a step of the
    input [B, T, I], the state h [B, H], x = x_t kernel + bias[0] and u = h_{t-1} recurrent_kernel +
    bias[1], each split into three parts::

        z = rec(x_z + u_z)
        r = rec(x_r + u_r)
        h_t = z * h_{t-1} + (1 - z) * act(x_h + r * u_h)

    and without ``reset_after`` (r * h_{t-1}) recurrent_kernel_h for r * u_h, with one bias.

    `treadle.keras.accelerate` says when Keras' own code runs instead, with a warning.

    Examples
    --------
    >>> import numpy as np, treadle.keras
    >>> layer = treadle.keras.layers.GRU(16, return_sequences=True, return_state=True)
    >>> y, h = layer(np.zeros((3, 5, 8), np.float32))
    >>> y.shape, h.shape
    (torch.Size([3, 5, 16]), torch.Size([3, 16]))
    """


@_replaces(keras.layers.RNN)
class RNN(Recurrent, keras.layers.RNN):
    """keras.layers.RNN on treadle's kernels, for Keras' own cells and stacks of them.

    ``cell`` is a SimpleRNNCell, LSTMCell, GRUCell or StackedRNNCells of them; with any other, the
    layer runs Keras' own code, with a warning. All else is Keras'.

    Examples
    --------
    >>> import keras, numpy as np, treadle.keras
    >>> cells = [keras.layers.LSTMCell(16), keras.layers.GRUCell(4)]
    >>> layer = treadle.keras.layers.RNN(keras.layers.StackedRNNCells(cells))
    >>> layer(np.zeros((3, 5, 8), np.float32)).shape
    torch.Size([3, 4])
    """


@_replaces(keras.layers.Bidirectional)
class Bidirectional(BothDirections, keras.layers.Bidirectional):
    """keras.layers.Bidirectional on treadle's kernels, both directions in one call.

    Constructor, merge modes, weights, methods and the file of a saved model are Keras'. The two
    layers become treadle's as by `treadle.keras.accelerate`.

    Examples
    --------
    >>> import keras, numpy as np, treadle.keras
    >>> layer = treadle.keras.layers.Bidirectional(keras.layers.GRU(16), merge_mode="sum")
    >>> layer(np.zeros((3, 5, 8), np.float32)).shape
    torch.Size([3, 16])
    """

    def __init__(self, layer: Any, *args: Any, **options: Any) -> None:
        super().__init__(layer, *args, **options)
        for own in (self.forward_layer, self.backward_layer):
            made = accelerated(type(own))
            if isinstance(made, type):
                become(own, made)


@_replaces(keras.layers.MultiHeadAttention)
class MultiHeadAttention(Attention, keras.layers.MultiHeadAttention):
    """keras.layers.MultiHeadAttention on treadle's kernels, forward and backward.

    Constructor, weights, methods and the file of a saved model are Keras'. With the projections Q
    [B, T, N, E], K [B, S, N, E] and V [B, S, N, F] of query, key and value, each head is
    softmax(Q K^T / sqrt(E)) V, without the keys that a mask hides; memory grows with T and S, not
    with their product.

    Keras' own code runs, with a warning, where its attention scores are asked for, in training with
    dropout, and for other attention_axes than the first.

    Examples
    --------
    >>> import numpy as np, treadle.keras
    >>> layer = treadle.keras.layers.MultiHeadAttention(num_heads=2, key_dim=8)
    >>> x = np.zeros((3, 5, 16), np.float32)
    >>> layer(x, x, use_causal_mask=True).shape
    torch.Size([3, 5, 16])
    """


_THEIRS = {ours: theirs for theirs, ours in CLASSES.items()}


def accelerated(kind: type) -> type | str | None:
    """Return treadle's class for a class, a reason why there is none, or None for other classes."""
    if not issubclass(kind, tuple(CLASSES)) or issubclass(kind, tuple(_THEIRS)):
        return None
    if kind in CLASSES:
        return CLASSES[kind]
    if kind.__module__.startswith("keras."):
        return f"treadle has no {kind.__name__}"
    for made in kind.__subclasses__():
        if vars(made).get("_stands_for") is kind:
            return made
    theirs = next(base for base in kind.__mro__ if base in CLASSES)
    for base in kind.__mro__[: kind.__mro__.index(theirs)]:
        for name in _REPLACED:
            if name in vars(base):
                return f"{base.__qualname__} is a subclass that replaces {name}"

    def body(names: dict[str, Any]) -> None:
        names["__module__"], names["__qualname__"] = kind.__module__, kind.__qualname__
        names["__doc__"], names["_stands_for"] = kind.__doc__, kind

    made = types.new_class(kind.__name__, (kind, CLASSES[theirs]), exec_body=body)
    registered = object_registration.GLOBAL_CUSTOM_NAMES
    if kind in registered:
        registered[made] = registered[kind]
    return made


def become(layer: Any, kind: type) -> None:
    """Give a layer another class, which has the same attributes: treadle's, or Keras' again."""
    object.__setattr__(layer, "__class__", kind)
    if isinstance(layer, Quantized):
        show_quantize(layer)
    else:
        hide_quantize(layer)


def inner_layers_run(layer: Any) -> bool:
    """Tell whether the two layers of a Bidirectional run on treadle; of other layers it is true."""
    if not isinstance(layer, keras.layers.Bidirectional):
        return True
    own = layer.forward_layer, layer.backward_layer
    return all(isinstance(inner, Recurrent) for inner in own)


def restored(kind: type) -> type | None:
    """Return the class that a class of treadle stands for, or None for other classes."""
    found: type | None = vars(kind).get("_stands_for") or _THEIRS.get(kind)
    return found

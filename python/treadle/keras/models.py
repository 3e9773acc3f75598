"""This module lets existing models of Keras run on treadle's kernels, by changing them in place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras

from treadle._public import published
from treadle.keras.backend import Unable, require_torch

if TYPE_CHECKING:
    from collections.abc import Iterator


@published("treadle.keras")
@dataclass(frozen=True)
class Report:
    """A report of what `accelerate` did, by the paths of layers: their names with / between.

    Examples
    --------
    >>> import keras, treadle.keras
    >>> layers = [keras.layers.GRU(8, name="a"), keras.layers.GRU(8, dtype="float64", name="b")]
    >>> report = treadle.keras.accelerate(keras.Sequential(layers))
    >>> report.replaced, report.left
    ({'a': 'GRU'}, {'b': 'it computes in float64'})
    """

    replaced: dict[str, str]
    """Path to class."""
    left: dict[str, str]
    """Path to the reason, of layers that still run on Keras."""

    def __str__(self) -> str:
        lines = [f"{path}: {kind} runs on treadle" for path, kind in self.replaced.items()]
        lines += [f"{path}: left, {why}" for path, why in self.left.items()]
        return "\n".join(lines) or "no recurrent or attention layer found"


@published("treadle.keras")
def accelerate(model: Any, dtype: str | None = None) -> Report:
    """Let a model's recurrent layers and attention run, and train, on treadle's kernels.

    model  a Sequential, functional or subclassed model, or a layer, on Keras' backend torch
    dtype  "bfloat16" or "int8" for inference: the matrices of recurrent layers and their inputs are
           rounded, while variables, states and files stay float32. Training then raises an error.
           "float32" ends it; None, the default, changes nothing of it

    Each layer stays the same object with the same weights, configuration and connections; only its
    class becomes treadle's of the same name, which derives from Keras'. So ``fit``, ``evaluate``,
    ``predict``, callbacks and optimizers go on as before, gradients are those of Keras to rounding,
    and a saved file is Keras' own. Layers within others (nested models, Bidirectional,
    TimeDistributed, StackedRNNCells) are found, too. `restore` undoes the change.

    Keras' own code runs instead, and a warning says so once for each class and reason: for cells
    and activations that are a program's own; in training with ``recurrent_dropout``, with one
    dropout for each gate (``implementation=1``) or with dropout of attention; where scores of
    attention are asked for; for float64 and for tensors that are not on the CPU. Half precisions
    (the policies mixed_bfloat16 and mixed_float16) are computed in float32, from weights as Keras
    rounds them, and rounded at the end.

    What Keras makes of a model's file or pickle, and so ``copy.deepcopy`` and ``load_model``, has
    Keras' own layers: they have to be accelerated again.

    Raises
    ------
    TypeError
        If the argument is no layer or model of Keras.
    ValueError
        If Keras runs on another backend than torch, or for another dtype.

    Examples
    --------
    >>> import keras, treadle.keras
    >>> inner = keras.layers.LSTM(50, activation="relu", name="lstm")
    >>> model = keras.Sequential([keras.Input((100, 1)), inner, keras.layers.Dense(1)])
    >>> print(treadle.keras.accelerate(model))
    lstm: LSTM runs on treadle
    >>> treadle.keras.restore(model)
    >>> type(inner) is keras.layers.LSTM
    True
    """
    require_torch("treadle.keras.accelerate")
    from treadle.keras import low_precision
    from treadle.keras.classes import accelerated, become, inner_layers_run
    from treadle.keras.obstacles import check
    from treadle.keras.quantize import Quantized

    if dtype is not None and dtype not in low_precision.DTYPES:
        raise ValueError(
            f"treadle.keras.accelerate: dtype is {dtype!r}, expected one of "
            f"{', '.join(low_precision.DTYPES)}, or None"
        )
    replaced: dict[str, str] = {}
    left: dict[str, str] = {}
    # Inner layers come before the layer that holds them: Bidirectional needs both of its own.
    for path, layer in reversed(_layers("accelerate", model)):
        made = accelerated(type(layer))
        if made is None or not inner_layers_run(layer):
            continue
        try:
            if isinstance(made, str):
                raise Unable(made)
            check(layer)
        except Unable as reason:
            left[path] = str(reason)
            continue
        replaced[path] = type(layer).__name__
        become(layer, made)
    for _, layer in _layers("accelerate", model):
        if dtype is not None and isinstance(layer, Quantized):
            low_precision.set_dtype(layer, dtype)
    return Report(*(dict(reversed(found.items())) for found in (replaced, left)))


@published("treadle.keras")
def restore(model: Any) -> None:
    """Give the layers that `accelerate` has changed back their classes of Keras.

    Layers that were constructed as layers of `treadle.keras.layers` become Keras', too.

    Raises
    ------
    TypeError
        If the argument is no layer or model of Keras.
    ValueError
        If Keras runs on another backend than torch.

    Examples
    --------
    >>> import keras, treadle.keras
    >>> model = keras.Sequential([treadle.keras.layers.GRU(8)])
    >>> treadle.keras.restore(model)
    >>> type(model.layers[0]) is keras.layers.GRU
    True
    """
    require_torch("treadle.keras.restore")
    from treadle.keras.classes import become, restored
    from treadle.keras.low_precision import forget_dtype

    for _, layer in _layers("restore", model):
        forget_dtype(layer)
        theirs = restored(type(layer))
        if theirs is not None:
            become(layer, theirs)


def _layers(function: str, model: Any) -> list[tuple[str, Any]]:
    """Return each layer once, with its path: the names of those that it lies in, and its own."""
    if not isinstance(model, keras.layers.Layer):
        raise TypeError(
            f"treadle.keras.{function}: model is {type(model).__name__}, "
            "expected a model or layer of Keras"
        )
    seen: set[int] = set()

    def inside(layer: Any, path: str) -> Iterator[tuple[str, Any]]:
        if id(layer) in seen:
            return
        seen.add(id(layer))
        yield path, layer
        for inner in layer._flatten_layers(include_self=False, recursive=False):
            yield from inside(inner, inner.name if layer is model else f"{path}/{inner.name}")

    return list(inside(model, model.name))

"""This module gives Keras' recurrent layers the method ``quantize``."""

from __future__ import annotations

from typing import Any

from treadle.keras.low_precision import set_dtype

_KEPT = "_keras_quantize"


class Quantized:
    """The mixin of layers that can be quantized to int8."""

    def quantize(
        self, mode: str | None = None, type_check: bool = True, config: Any = None
    ) -> None:
        """Let the layer infer with int8 weights, as ``accelerate(model, dtype="int8")`` does.

        Each row of a matrix has a scale for 256 numbers, and each input one for each step. The
        variables and the dtype policy stay as they are, so that a saved file is one of float32.

        Raises NotImplementedError for another ``mode`` than "int8", as Keras' own layer does for
        any, and ValueError if the layer is not built yet.
        """
        own: Any = self
        if mode is None and config is not None:
            mode = config.mode
        if mode == "int8":
            own._check_quantize_args(mode, own.compute_dtype)
            set_dtype(self, mode)
        else:
            theirs: Any = super()
            theirs.quantize(mode, type_check=type_check, config=config)


def show_quantize(layer: Any) -> None:
    """Let a layer whose class has become treadle's be quantized by the method of its class.

    Keras keeps in each layer a function that calls the method of the class it was made with.
    """
    kept = vars(layer).pop("quantize", None)
    if kept is not None:
        vars(layer)[_KEPT] = kept


def hide_quantize(layer: Any) -> None:
    """Let a layer whose class has become Keras' be quantized as Keras does it, which is not yet."""
    kept = vars(layer).pop(_KEPT, None)
    if kept is not None:
        vars(layer)["quantize"] = kept
    elif "quantize" in vars(layer):
        method = getattr(vars(layer)["quantize"], "__wrapped__", None)
        if getattr(method, "__func__", None) is Quantized.quantize:
            del vars(layer)["quantize"]

"""The activation of a CrossEncoder's scores: a name of a file, a module of torch.nn, a function."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from treadle._inputs.checks import shown
from treadle.functional import gelu, relu, silu
from treadle.transformers.modules import ACTIVATIONS, activation_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from treadle._inputs.types import Float
    from treadle.transformers.config import Config


def _sigmoid(x: Float) -> Float:
    """Compute 1 / (1 + exp(-x)) in float64, where neither exponential overflows."""
    small = np.exp(-np.abs(x.astype(np.float64)))
    y: Float = (np.where(x >= 0, 1.0, small) / (1 + small)).astype(np.float32)
    return y


_FUNCTIONS: dict[str, Callable[[Float], Float]] = {
    "linear": lambda x: x,
    "tanh": lambda x: np.tanh(x),
    "relu": relu,
    "sigmoid": _sigmoid,
    "gelu": gelu,
    "silu": silu,
}
# Modules of torch.nn with options, which change the function.
_OPTIONS = {"gelu": {"approximate": "none"}}


class Activation:
    """A function of scores [n, labels], made of whatever names it."""

    def __init__(self, function: str, given: Any) -> None:
        """Check what names the activation: a path of a class of torch.nn, or something to call."""
        self.given = given
        self._own = _known(given)
        if self._own is None and not callable(given):
            raise TypeError(
                f"{function}: activation_fn is {shown(given)}, expected a module of torch.nn or a "
                "function"
            )

    def __call__(self, function: str, scores: Float) -> Float:
        """Return the activation of scores [n, labels], of the same shape or [n] for one label."""
        if self._own is not None:
            return self._own(scores)
        if _is_of_torch(self.given):
            torch = sys.modules["torch"]
            with torch.inference_mode():
                result = self.given(torch.from_numpy(scores)).numpy()
        else:
            result = self.given(scores)
        array = np.asarray(result, np.float32)
        if array.size != scores.size or len(array) != len(scores):
            raise ValueError(
                f"{function}: activation_fn makes an array of shape {array.shape} of one of shape "
                f"{scores.shape}, expected the same shape"
            )
        return array


def activation_of_files(
    function: str, directory: str, config: Config, model: Mapping[str, Any]
) -> str:
    """Return the path of the activation's class that the files of a directory name.

    They are config_sentence_transformers.json (sentence-transformers from 5.4 on) and config.json
    (before). Without any it is the sigmoid for one label and the identity for several.
    """
    entries = config.to_dict()
    older = entries.get("sentence_transformers") or {}
    places = (
        ("config_sentence_transformers.json", model.get("activation_fn")),
        ("config.json", older.get("activation_fn") if isinstance(older, dict) else older),
        ("config.json", entries.get("sbert_ce_default_activation_function")),
    )
    for name, path in places:
        if path is not None:
            activation_of(f"{function}: {directory}/{name}", "activation_fn", path)
            return str(path)
    named = "activation.Sigmoid" if config.num_labels == 1 else "linear.Identity"
    return f"torch.nn.modules.{named}"


def _known(given: Any) -> Callable[[Float], Float] | None:
    """Return treadle's function for a path or a module of torch.nn, None where it has none."""
    if isinstance(given, str):
        return _FUNCTIONS[activation_of("activation_fn", "path", given)]
    kind = type(given)
    name = ACTIVATIONS.get(kind.__name__) if kind.__module__.startswith("torch.nn.") else None
    options = _OPTIONS.get(name or "", {})
    if name is None or any(getattr(given, key) != value for key, value in options.items()):
        return None
    return _FUNCTIONS[name]


def _is_of_torch(given: Any) -> bool:
    """Tell whether a module or a function belongs to PyTorch, which the caller then has loaded."""
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    name = getattr(given, "__name__", "")
    return (
        isinstance(given, torch.nn.Module)
        or str(getattr(given, "__module__", "")).startswith("torch.")
        or getattr(torch, name, None) is given
    )

"""This module says which variables a layer has: their names and shapes, in the order of files.

A size that the configuration does not say is a letter: it stands for one number in all variables of
a layer, which the file's arrays tell. ("C", 2) is twice that number.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from treadle.keras.files.description import Layer

Size: TypeAlias = "int | str | tuple[str, int]"
Shape: TypeAlias = "tuple[Size, ...] | None"  # None: any

GATES = {"SimpleRNN": 1, "LSTM": 4, "GRU": 3}
NOT_TRAINED = ("moving_mean", "moving_variance", "mean", "variance", "count")
# The parts of a MultiHeadAttention: the name of the projection and that of Keras' attribute.
_PROJECTIONS = {
    "query": "query_dense",
    "key": "key_dense",
    "value": "value_dense",
    "attention_output": "output_dense",
}


@dataclass(frozen=True, slots=True)
class Variables:
    """These are variables that a file has in one place.

    ``path`` is where they are below their layer in files of Keras 3, ``names`` are the names they
    get in `Layer.weights`, with their shapes.
    """

    path: str
    shapes: dict[str, Shape] = field(default_factory=dict)


def variables(layer: Layer) -> list[Variables]:
    """Return the variables of a layer itself, without those of its parts and models."""
    kind, config = layer.kind, layer.config
    if kind.removesuffix("Cell") in GATES:
        path = "" if kind.endswith("Cell") else "cell"
        return [Variables(path, _recurrent(kind.removesuffix("Cell"), config))]
    if kind == "MultiHeadAttention":
        return _attention(config)
    rank = {"1": 1, "2": 2}.get(kind[-2:-1], 0)
    if "Conv" in kind:
        return [Variables("", _convolution(kind, config, (1,) * rank))]
    simple = _SIMPLE.get(kind)
    return [Variables("", simple(config))] if simple else []


def _recurrent(kind: str, config: dict[str, Any]) -> dict[str, Shape]:
    units = config["units"]
    rows = GATES[kind] * units
    shapes: dict[str, Shape] = {"kernel": ("I", rows), "recurrent_kernel": (units, rows)}
    if config["use_bias"]:
        shapes["bias"] = (2, rows) if config.get("reset_after") else (rows,)
    return shapes


def _convolution(kind: str, config: dict[str, Any], ones: tuple[int, ...]) -> dict[str, Shape]:
    kernel: tuple[int, ...] = config["kernel_size"]
    filters: int = config.get("filters", 0)
    width: Size = filters
    if kind.startswith("Separable"):
        multiplier = config["depth_multiplier"]
        shapes: dict[str, Shape] = {
            "depthwise_kernel": (*kernel, "C", multiplier),
            "pointwise_kernel": (*ones, ("C", multiplier), filters),
        }
    elif kind.startswith("Depthwise"):
        shapes = {"kernel": (*kernel, "C", config["depth_multiplier"])}
        width = ("C", config["depth_multiplier"])
    elif kind.endswith("Transpose"):
        shapes = {"kernel": (*kernel, filters, "C")}
    else:
        shapes = {"kernel": (*kernel, "C", filters)}
    if config["use_bias"]:
        shapes["bias"] = (width,)
    return shapes


def _attention(config: dict[str, Any]) -> list[Variables]:
    heads, key = config["num_heads"], config["key_dim"]
    value = config["value_dim"] or key
    out: tuple[Size, ...] = config["output_shape"] or ("Q",)
    shapes: dict[str, tuple[tuple[Size, ...], tuple[Size, ...]]] = {
        "query": (("Q", heads, key), (heads, key)),
        "key": (("K", heads, key), (heads, key)),
        "value": (("V", heads, value), (heads, value)),
        "attention_output": ((heads, value, *out), out),
    }
    found = []
    for name, (kernel, bias) in shapes.items():
        inner: dict[str, Shape] = {f"{name}/kernel": kernel}
        if config["use_bias"]:
            inner[f"{name}/bias"] = bias
        found.append(Variables(_PROJECTIONS[name], inner))
    return found


def _dense(config: dict[str, Any]) -> dict[str, Shape]:
    units = config["units"]
    return {"kernel": ("I", units), **({"bias": (units,)} if config["use_bias"] else {})}


def _scaled(config: dict[str, Any], shape: Shape = ("C",)) -> dict[str, Shape]:
    used = {"gamma": config["scale"], "beta": config["center"]}
    return {name: shape for name, is_used in used.items() if is_used}


def _batch_norm(config: dict[str, Any]) -> dict[str, Shape]:
    return {**_scaled(config), "moving_mean": ("C",), "moving_variance": ("C",)}


def _layer_norm(config: dict[str, Any]) -> dict[str, Shape]:
    shape = tuple(f"A{index}" for index, _ in enumerate(config["axis"]))
    if config["rms_scaling"]:
        return {"gamma": shape}
    return _scaled(config, shape)


def _normalization(config: dict[str, Any]) -> dict[str, Shape]:
    if config["mean"] is not None:
        return {}
    shape = tuple(f"A{index}" for index, _ in enumerate(config["axis"] or ()))
    return {"mean": shape, "variance": shape, "count": ()}


def _dot_attention(config: dict[str, Any]) -> dict[str, Shape]:
    used = {"scale": config["use_scale"], "concat_score_weight": config["score_mode"] == "concat"}
    return {name: () for name, is_used in used.items() if is_used}


def _embedding(config: dict[str, Any]) -> dict[str, Shape]:
    return {"embeddings": (config["input_dim"], config["output_dim"])}


def _additive_attention(config: dict[str, Any]) -> dict[str, Shape]:
    return {"scale": ("C",)} if config["use_scale"] else {}


def _prelu(_: dict[str, Any]) -> dict[str, Shape]:
    return {"alpha": None}


_SIMPLE: dict[str, Callable[[dict[str, Any]], dict[str, Shape]]] = {
    "Embedding": _embedding,
    "Dense": _dense,
    "PReLU": _prelu,
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "GroupNormalization": _scaled,
    "Normalization": _normalization,
    "Attention": _dot_attention,
    "AdditiveAttention": _additive_attention,
}


def check_shape(
    expected: Shape, found: tuple[int, ...], letters: dict[str, int], where: str
) -> None:
    """Raise ValueError for an array of another shape, and note what letters stand for."""
    if expected is None:
        if 0 < len(found) < 8 and 0 not in found:
            return
    elif len(expected) == len(found):
        for size, number in zip(expected, found, strict=True):
            if isinstance(size, str):
                letters.setdefault(size, number)
        if all(_size(s, letters) == n and n > 0 for s, n in zip(expected, found, strict=True)):
            return
    shown = "any" if expected is None else _shown(expected, letters)
    raise ValueError(f"{where} has shape {found}, expected {shown}")


def _size(size: Size, letters: dict[str, int]) -> int | None:
    if isinstance(size, tuple):
        return letters[size[0]] * size[1] if size[0] in letters else None
    return letters.get(size) if isinstance(size, str) else size


def _shown(shape: tuple[Size, ...], letters: dict[str, int]) -> str:
    sizes = [str(size if (n := _size(size, letters)) is None else n) for size in shape]
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"

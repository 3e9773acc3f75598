"""modules.json: what a sentence-transformers model does with the tokens' vectors, step by step.

The types are names of classes of sentence-transformers, of which only the last part counts; nothing
is imported by them. Known are Transformer (first), Pooling (second), Normalize, Dense and Dropout.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from treadle._inputs.checks import integer
from treadle.transformers.checkpoint import Checkpoint
from treadle.transformers.directory import exists, plain, read_flag, read_json, read_list, wrong
from treadle.transformers.encoder import linear_shapes, read_linear
from treadle.transformers.pooling import Pooling, read_pooling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from treadle._inputs.types import Float

_PACKAGE = "sentence_transformers."
# The classes of torch.nn, and treadle's names of these activations.
_ACTIVATIONS = {
    "Identity": "linear",
    "Tanh": "tanh",
    "ReLU": "relu",
    "Sigmoid": "sigmoid",
    "GELU": "gelu",
    "SiLU": "silu",
}


class Steps(NamedTuple):
    """The modules of a directory: where the encoder lies, and which modules follow it."""

    encoder: str
    entries: list[tuple[str, str]]
    """(type, directory) of the modules after the encoder."""


def normalize(x: Float) -> Float:
    """Scale rows to length 1 by F.normalize's formula, x / max(||x||, 1e-12); zeros stay."""
    lengths = np.sqrt((x * x).sum(axis=1, keepdims=True))
    scaled: Float = x / np.maximum(lengths, np.float32(1e-12))
    return scaled


def read_steps(function: str, directory: str) -> Steps:
    """Read modules.json; a directory without it is an encoder whose tokens' mean is taken."""
    if not exists(directory, "modules.json"):
        return Steps(directory, [])
    where = os.path.join(directory, "modules.json")
    found = list(_read_modules(function, directory, where))
    if not found or found[0][0] != "Transformer" or "Transformer" in dict(found[1:]):
        raise ValueError(f"{function}: {where} does not begin with one Transformer")
    if len(found) < 2 or found[1][0] != "Pooling" or "Pooling" in dict(found[2:]):
        raise ValueError(f"{function}: {where} has no Pooling after the Transformer, expected one")
    return Steps(found[0][1], found[1:])


def read_following(
    function: str, steps: Steps, hidden_size: int
) -> tuple[Pooling, list[Callable[[Float], Float]], int]:
    """Return the pooling, the functions applied to its result, and the size of the vectors."""
    if not steps.entries:
        return Pooling(), [], hidden_size
    (_, place), *rest = steps.entries
    pooling = read_pooling(function, place, hidden_size)
    size = hidden_size * len(pooling.modes)
    functions: list[Callable[[Float], Float]] = []
    for kind, place in rest:
        if kind == "Normalize":
            functions.append(normalize)
        elif kind == "Dense":
            dense, size = _read_dense(function, place, size)
            functions.append(dense)
    return pooling, functions, size


def _read_modules(function: str, directory: str, where: str) -> Iterator[tuple[str, str]]:
    known = ("Transformer", "Pooling", "Normalize", "Dense", "Dropout")
    for entry in read_list(function, directory, "modules.json"):
        if not isinstance(entry, dict):
            raise wrong(f"{function}: {where}", "an item", entry, "a module")
        kind = entry.get("type")
        name = kind.rpartition(".")[2] if isinstance(kind, str) else ""
        if name not in known or not str(kind).startswith(_PACKAGE):
            expected = f"{_PACKAGE}... with one of {', '.join(known)}"
            raise wrong(f"{function}: {where}", "type", kind, expected)
        path = entry.get("path", "")
        # The encoder may lie in the directory itself, beside modules.json.
        inside = "" if path == "" else plain(function, where, path)
        yield name, os.path.join(directory, inside) if inside else directory


def _read_dense(function: str, directory: str, size: int) -> tuple[Callable[[Float], Float], int]:
    entries = read_json(function, directory, "config.json")
    where = f"{function}: {directory}/config.json"
    _check_dense(where, entries, size)
    outputs = integer(where, "out_features", entries.get("out_features"))
    activation = (_dense_activation(where, entries), 0.0, 0.0)
    with Checkpoint(function, directory) as checkpoint:
        bias = read_flag(where, entries, "bias", default=True)
        shapes = linear_shapes("linear", outputs, size)
        if not bias:
            del shapes["linear.bias"]
        checkpoint.check(shapes, "it in a Dense module")
        layer = read_linear(function, checkpoint, "linear", bias=bias)
    return lambda x: layer.run(function, x, activation, None), outputs


def _check_dense(where: str, entries: dict[str, Any], size: int) -> None:
    for name, expected in (
        ("in_features", size),
        ("use_residual", False),
        ("module_input_name", "sentence_embedding"),
        ("module_output_name", "sentence_embedding"),
    ):
        value = entries.get(name, expected)
        if value != expected and not (name == "module_output_name" and value is None):
            raise wrong(where, name, value, repr(expected))


def _dense_activation(where: str, entries: dict[str, Any]) -> str:
    name = entries.get("activation_function", "torch.nn.modules.activation.Tanh")
    found = _ACTIVATIONS.get(name.rpartition(".")[2]) if isinstance(name, str) else None
    if found is None or not name.startswith("torch.nn."):
        expected = f"torch.nn... with one of {', '.join(_ACTIVATIONS)}"
        raise wrong(where, "activation_function", name, expected)
    return found

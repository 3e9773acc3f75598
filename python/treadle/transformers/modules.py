"""modules.json: what a sentence-transformers model does with the tokens' vectors, step by step.

The types are names of classes of sentence-transformers, of which only the last part counts; nothing
is imported by them. Known are Transformer (first), Pooling (second), Normalize, Dense, LayerNorm
and Dropout.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from treadle import _core
from treadle._inputs.checks import integer
from treadle.transformers.checkpoint import Checkpoint
from treadle.transformers.directory import exists, plain, read_flag, read_json, read_list, wrong
from treadle.transformers.encoder import linear_shapes, read_linear
from treadle.transformers.pooling import Pooling, read_pooling
from treadle.transformers.settings import (
    DENSE,
    DROPOUT,
    LAYER_NORM,
    MODULE,
    NORMALIZE,
    check_entries,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from treadle._inputs.types import Float

_PACKAGE = "sentence_transformers."
_CONFIG = "config.json"
# torch.nn.LayerNorm's default, the only one that a LayerNorm module can have.
_EPS = 1e-5
# The classes of torch.nn, and treadle's names of these activations.
ACTIVATIONS = {
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
    settings: bool
    """True if there is a modules.json; without it sentence-transformers reads no file of its own,
    and the directory is an encoder whose tokens' mean is taken."""


def normalize(x: Float) -> Float:
    """Scale rows to length 1 by F.normalize's formula, x / max(||x||, 1e-12); zeros stay."""
    lengths = np.sqrt((x * x).sum(axis=1, keepdims=True))
    scaled: Float = x / np.maximum(lengths, np.float32(1e-12))
    return scaled


def read_steps(function: str, directory: str) -> Steps:
    """Read modules.json; a directory without it is a Transformer alone."""
    if not exists(directory, "modules.json"):
        return Steps(directory, [], settings=False)
    where = os.path.join(directory, "modules.json")
    found = list(_read_modules(function, directory, where))
    if not found or found[0][0] != "Transformer" or "Transformer" in dict(found[1:]):
        raise ValueError(f"{function}: {where} does not begin with one Transformer")
    return Steps(found[0][1], found[1:], settings=True)


def read_following(
    function: str, steps: Steps, hidden_size: int
) -> tuple[Pooling, list[Callable[[Float], Float]], int]:
    """Return the pooling, the functions applied to its result, and the size of the vectors."""
    if not steps.settings:
        return Pooling(), [], hidden_size
    kinds = [kind for kind, _ in steps.entries]
    if kinds[:1] != ["Pooling"] or "Pooling" in kinds[1:]:
        raise ValueError(
            f"{function}: modules.json has no Pooling after the Transformer, expected one"
        )
    (_, place), *rest = steps.entries
    pooling = read_pooling(function, place, hidden_size)
    size = hidden_size * len(pooling.modes)
    functions: list[Callable[[Float], Float]] = []
    for kind, place in rest:
        if kind == "Dense":
            dense, size = _read_dense(function, place, size)
            functions.append(dense)
        elif kind == "LayerNorm":
            functions.append(_read_layer_norm(function, place, size))
        else:
            table = NORMALIZE if kind == "Normalize" else DROPOUT
            # Their directories are empty in older files.
            entries = read_json(function, place, _CONFIG) if exists(place, _CONFIG) else {}
            check_entries(f"{function}: {place}/{_CONFIG}", entries, table)
            functions += [normalize] if kind == "Normalize" else []
    return pooling, functions, size


def _read_modules(function: str, directory: str, where: str) -> Iterator[tuple[str, str]]:
    known = ("Transformer", "Pooling", "Normalize", "Dense", "LayerNorm", "Dropout")
    names: set[object] = set()
    for entry in read_list(function, directory, "modules.json"):
        if not isinstance(entry, dict):
            raise wrong(f"{function}: {where}", "an item", entry, "a module")
        check_entries(f"{function}: {where}", entry, MODULE)
        called = entry.get("name")
        if isinstance(called, str) and called in names:
            raise wrong(f"{function}: {where}", "name", called, "a name of its own for each module")
        names.add(called if isinstance(called, str) else None)
        kind = entry.get("type")
        name = kind.rpartition(".")[2] if isinstance(kind, str) else ""
        if name not in known or not str(kind).startswith(_PACKAGE):
            expected = f"{_PACKAGE}... with one of {', '.join(known)}"
            raise wrong(f"{function}: {where}", "type", kind, expected)
        path = entry.get("path", "")
        # The encoder may lie in the directory itself, beside modules.json.
        inside = "" if path == "" else plain(function, where, path)
        yield name, os.path.join(directory, inside) if inside else directory


def activation_of(where: str, name: str, path: object) -> str:
    """Return treadle's name of an activation that a file gives as a class of torch.nn."""
    found = ACTIVATIONS.get(path.rpartition(".")[2]) if isinstance(path, str) else None
    if found is None or not str(path).startswith("torch.nn."):
        raise wrong(where, name, path, f"torch.nn... with one of {', '.join(ACTIVATIONS)}")
    return found


def _read_dense(function: str, directory: str, size: int) -> tuple[Callable[[Float], Float], int]:
    entries = read_json(function, directory, _CONFIG)
    where = f"{function}: {directory}/{_CONFIG}"
    check_entries(where, entries, DENSE)
    if entries.get("in_features", size) != size:
        raise wrong(where, "in_features", entries["in_features"], repr(size))
    outputs = integer(where, "out_features", entries.get("out_features"))
    path = entries.get("activation_function", "torch.nn.modules.activation.Tanh")
    activation = (activation_of(where, "activation_function", path), 0.0, 0.0)
    with Checkpoint(function, directory) as checkpoint:
        bias = read_flag(where, entries, "bias", default=True)
        shapes = linear_shapes("linear", outputs, size)
        if not bias:
            del shapes["linear.bias"]
        checkpoint.check(shapes, "it in a Dense module")
        layer = read_linear(function, checkpoint, "linear", bias=bias)
    return lambda x: layer.run(function, x, activation, None), outputs


def _read_layer_norm(function: str, directory: str, size: int) -> Callable[[Float], Float]:
    entries = read_json(function, directory, _CONFIG)
    where = f"{function}: {directory}/{_CONFIG}"
    check_entries(where, entries, LAYER_NORM)
    if entries.get("dimension") != size:
        raise wrong(where, "dimension", entries.get("dimension"), repr(size))
    with Checkpoint(function, directory) as checkpoint:
        checkpoint.check(dict.fromkeys(("norm.weight", "norm.bias"), (size,)), "it in a LayerNorm")
        weight, bias = checkpoint.read("norm.weight"), checkpoint.read("norm.bias")
    return lambda x: _core.layer_norm(function, x, weight, bias, _EPS, None)

"""This module converts a model file, or a PyTorch state dict, into a model file.

What a recurrent layer's state dict is follows from names and shapes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from treadle._inputs import foreign
from treadle._storage import safetensors
from treadle._storage.files import opened
from treadle.layers import build
from treadle.layers.files import described, read_parameters, write
from treadle.layers.module import Module, known_layers
from treadle.layers.recurrent_spec import GATES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from treadle._storage.files import Path
    from treadle._storage.formats import Stored
    from treadle._storage.safetensors import Header

_CLASSES = {"rnn": "RNN", "lstm": "LSTM", "gru": "GRU"}
_PARAMETER = re.compile(
    r"(weight_ih|weight_hh|weight_hr|bias_ih|bias_hh|peepholes)(?:_l(\d{1,4})(_reverse)?)?"
)

Shapes = dict[str, tuple[int, ...]]


def convert_file(
    source: Path,
    target: Path,
    *,
    dtype: str | None = None,
    mode: str | None = None,
    prefix: str | None = None,
    **configuration: Any,
) -> Module:
    """Write the model of one file to another, a parameter at a time; memory never holds all.

    The source is a file of treadle.save, or the state dict of a PyTorch layer or cell (RNN, LSTM,
    GRU) as safetensors, in float32, float16 or bfloat16. The matrices of the target have ``dtype``;
    if that is None, they have the dtype of treadle's file, or float32. Matrices that have the dtype
    already keep their bits.

    In the state dict of a larger module, the weights of a layer have a prefix, such as
    "encoder.lstm."; it is needed only when the file holds several layers. ``mode`` is never needed,
    but checked. ``configuration`` has the options that no weight tells: batch_first, nonlinearity.

    Returns the module without its parameters. Raises ValueError for a file that is damaged, is a
    pickle, or holds no such layer, and for options beside a file of treadle.save.
    """
    function = "treadle convert"
    parameters: Iterator[tuple[str, Stored]]
    with opened(function, source) as (file, header):
        if "treadle" in header.metadata:
            if mode is not None or prefix is not None or configuration:
                raise ValueError(
                    f"{header.where} was written by treadle.save, expected no options but the dtype"
                )
            original = described(header)
            module = original if dtype is None else build.retyped(original, dtype)
            parameters = read_parameters(file, header, original)
        else:
            configuration["dtype"] = dtype or "float32"
            module, prefix = _of_state_dict(header, mode, prefix, configuration)
            names = list(build.shapes(module))
            parameters = ((name, safetensors.read(file, header, prefix + name)) for name in names)
        write(
            target,
            function,
            module,
            ((name, build.converted(module, name, value)) for name, value in parameters),
        )
    return module


def _of_state_dict(
    header: Header, mode: str | None, prefix: str | None, configuration: dict[str, Any]
) -> tuple[Module, str]:
    """Return the module of a state dict, without parameters, and the prefix of its tensors."""
    shapes = {name: entry.shape for name, entry in header.tensors.items()}
    if prefix is None:
        prefix = _find_prefix(header.where, shapes)
    own = {name.removeprefix(prefix): s for name, s in shapes.items() if name.startswith(prefix)}
    own = {name: shape for name, shape in own.items() if _PARAMETER.fullmatch(name)}
    name, deduced = _deduce(header.where, prefix, own, mode)
    try:
        module = build.blueprint(known_layers()[name], {**deduced, **configuration})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{header.where}: {error}") from error
    safetensors.check_names(header, own, build.shapes(module))
    for name, shape in build.shapes(module).items():
        safetensors.check_tensor(header, prefix + name, shape)
    return module, prefix


def _find_prefix(where: str, shapes: Shapes) -> str:
    found = sorted(
        n[: -len(end)] for n in shapes for end in ("weight_hh_l0", "weight_hh") if n.endswith(end)
    )
    if len(found) == 1:
        return found[0]
    if not found:
        raise ValueError(
            f"{where} has no tensor weight_hh_l0 or weight_hh among {len(shapes)}, "
            "expected the state dict of a PyTorch LSTM, GRU, RNN or cell"
        )
    raise ValueError(f"{where} has several layers, expected a prefix, one of {found[:20]}")


def _deduce(
    where: str, prefix: str, shapes: Shapes, mode: str | None
) -> tuple[str, dict[str, Any]]:
    """Deduce the class and the configuration of a net from the names and shapes of its weights."""
    cell = "weight_hh" in shapes
    first = "" if cell else "_l0"
    try:
        rows, inputs = shapes["weight_ih" + first]
        hh_rows, recurrent = shapes["weight_hh" + first]
        projection, hidden = shapes.get("weight_hr" + first, (0, recurrent))
    except (KeyError, ValueError):
        raise ValueError(
            f"{where} has no matrices {prefix}weight_ih{first} and {prefix}weight_hh{first}, "
            f"expected [G*H, I] and [G*H, H]"
        ) from None
    found = next((m for m, gates in GATES.items() if hidden and gates * hidden == rows), None)
    if found is None or hh_rows != rows:
        raise ValueError(
            f"{where}: {prefix}weight_ih{first} has {rows} rows and {prefix}weight_hh{first} "
            f"{hh_rows} for H = {hidden}, expected 4*H (LSTM), 3*H (GRU) or H (RNN)"
            + (foreign.hint((rows, inputs), (inputs, rows)) if inputs == hh_rows else "")
        )
    if mode is not None and mode != found:
        raise ValueError(
            f"{where}: the weights at {prefix!r} are those of a {found}, expected {mode}"
        )
    configuration = {
        "input_size": inputs,
        "hidden_size": hidden,
        "bias": "bias_ih" + first in shapes,
    }
    if "peepholes" + first in shapes:  # treadle wrote the state dict, since PyTorch has none
        configuration["use_peepholes"] = True
    if cell:
        return _CLASSES[found] + "Cell", configuration
    layers = {int(m[2]) for m in map(_PARAMETER.fullmatch, shapes) if m and m[2]}
    configuration["num_layers"] = max(layers) + 1
    configuration["bidirectional"] = "weight_ih_l0_reverse" in shapes
    if projection:
        configuration["proj_size"] = projection
    return _CLASSES[found], configuration

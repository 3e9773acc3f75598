"""A recurrent layer out of a PyTorch state dict: what it is follows from names and shapes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from weft import _tensors
from weft._gated import GATES
from weft.files import opened
from weft.module import LAYERS, Module

if TYPE_CHECKING:
    from weft.files import Path

_CLASSES = {"rnn": "RNN", "lstm": "LSTM", "gru": "GRU"}
_PARAMETER = re.compile(
    r"(weight_ih|weight_hh|weight_hr|bias_ih|bias_hh)(?:_l(\d{1,4})(_reverse)?)?"
)

Shapes = dict[str, tuple[int, ...]]


def from_state_dict_file(
    path: Path, mode: str | None = None, prefix: str | None = None, **configuration: Any
) -> Module:
    """The layer (or cell) in a safetensors file that holds the state dict of a PyTorch module.

    The weights of a layer that is part of a larger module have a prefix, such as "encoder.lstm.";
    it is needed only when the file holds several layers. ``mode`` is needed never, and checked
    when given. What no weight tells comes in ``configuration``: batch_first, nonlinearity.

    Raises ValueError for a file that is damaged, is a pickle, or holds no such layer.
    """
    function = "weft convert"
    with opened(function, path) as (file, header):
        shapes = {name: entry.shape for name, entry in header.tensors.items()}
        if prefix is None:
            prefix = _find_prefix(header.where, shapes)
        own = {
            name.removeprefix(prefix): s for name, s in shapes.items() if name.startswith(prefix)
        }
        own = {name: shape for name, shape in own.items() if _PARAMETER.fullmatch(name)}
        name, deduced = _deduce(header.where, prefix, own, mode)
        try:
            module = LAYERS[name]._restore({**deduced, **configuration})
        except (TypeError, ValueError) as error:
            raise ValueError(f"{header.where}: {error}") from error
        header = header._replace(tensors={k: header.tensors[prefix + k] for k in own})
        _tensors.check_shapes(header, module._shapes())
        module._set(_tensors.read_tensors(file, header, module._shapes()))
    return module


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
    """The name of the class and the configuration behind the names and shapes of its weights."""
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
    if cell:
        return _CLASSES[found] + "Cell", configuration
    layers = {int(m[2]) for m in map(_PARAMETER.fullmatch, shapes) if m and m[2]}
    configuration["num_layers"] = max(layers) + 1
    configuration["bidirectional"] = "weight_ih_l0_reverse" in shapes
    if projection:
        configuration["proj_size"] = projection
    return _CLASSES[found], configuration

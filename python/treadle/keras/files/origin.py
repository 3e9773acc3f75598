"""This module checks where classes and dtypes of a configuration come from: from Keras itself.

No name of a file is ever imported or looked up: these checks give people the reason and the way
out, and keep layers of other packages from being taken for Keras' layers of the same name.
"""

from __future__ import annotations

import re
from typing import Any

from treadle._storage.json import short
from treadle.keras.files import kinds

_MODULE = re.compile(r"(tf_)?keras(\.[a-zA-Z0-9_]+)*")
_OPERATION_MODULE = re.compile(r"keras(\.src)?\.ops(\.[a-zA-Z0-9_]+)*")
_POLICIES = frozenset(
    {
        *("float16", "float32", "float64", "bfloat16", "mixed_float16", "mixed_bfloat16", "bool"),
        *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    }
)


def class_name(entry: Any, where: str, what: str) -> str:
    """Return the name of the class of an object {"class_name", "config"}."""
    name = entry.get("class_name") if isinstance(entry, dict) else None
    if not isinstance(name, str) or len(name) > 1000:
        raise ValueError(f"{where}: {what} is {short(entry)}, expected an object of a class")
    return name


def is_operation(entry: dict[str, Any]) -> bool:
    """Return whether an entry of a functional model is one of Keras' operations, not a layer.

    An .h5 file of Keras 3 has no modules; there, layers say whether they are trained.
    """
    module, config = entry.get("module"), entry.get("config")
    if module is None and isinstance(config, dict) and "trainable" not in config:
        return entry.get("class_name") in kinds.OPERATIONS
    return isinstance(module, str) and _OPERATION_MODULE.fullmatch(module) is not None


def check_origin(entry: dict[str, Any], where: str) -> None:
    """Raise ValueError for a class that is not Keras' own."""
    module, registered = entry.get("module", "keras"), entry.get("registered_name")
    if not isinstance(module, str) or not _MODULE.fullmatch(module):
        raise ValueError(
            f"{where}: {short(entry.get('class_name'))} is of module {short(module)}, expected "
            f"Keras' own; {kinds.INSTEAD}"
        )
    if registered is not None and registered != entry.get("class_name"):
        raise ValueError(
            f"{where}: {short(entry.get('class_name'))} is registered as {short(registered)}, "
            f"expected a class of Keras' own; {kinds.INSTEAD}"
        )


def function_name(value: Any, where: str) -> str:
    """Return the name of an activation function: a string, or Keras 3's object of a function."""
    if isinstance(value, dict):
        if value.get("module") != "builtins":
            check_origin({**value, "registered_name": None}, where)
        value = value.get("config")
    name = {"swish": "silu", "hard_swish": "hard_silu"}.get(str(value), value)
    if value is None:
        return "linear"
    if not isinstance(name, str) or name not in kinds.FUNCTIONS:
        raise ValueError(
            f"{where} is {short(value)}, expected one of Keras' own functions; a function of one's "
            f"own is Python code: {kinds.INSTEAD}"
        )
    return name


def check_input(dtype: str, where: str) -> None:
    """Raise ValueError for the dtype of an input other than of numbers."""
    if dtype == "string":
        raise ValueError(f"{where}: its dtype is 'string': {kinds.REFUSED['StringLookup']}")
    if dtype not in _POLICIES:
        raise ValueError(f"{where}: its dtype is {short(dtype)}, expected that of an array")


def check_policy(value: Any, where: str) -> None:
    """Raise ValueError for a dtype or a policy of dtypes other than of floats and integers."""
    if isinstance(value, dict):
        inner, name = value.get("config"), value.get("class_name")
        if name not in ("DTypePolicy", "Policy") or not isinstance(inner, dict):
            raise ValueError(
                f"{where}: its dtype policy is {short(name)}, expected DTypePolicy: save the model "
                "before quantizing it; treadle has its own int8"
            )
        value = inner.get("name")
    if value is not None and (not isinstance(value, str) or value not in _POLICIES):
        raise ValueError(
            f"{where}: its dtype is {short(value)}, expected one of {', '.join(sorted(_POLICIES))}"
        )


def refuse(kind: str, where: str) -> None:
    """Raise ValueError for a class that is not in the table of layers."""
    if kind in kinds.REFUSED:
        raise ValueError(f"{where}: it is a {kind}: {kinds.REFUSED[kind]}")
    raise ValueError(f"{where}: layers of class {short(kind)} are {kinds.INSTEAD}")

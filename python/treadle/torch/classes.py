"""This module finds or makes the class by which a module of PyTorch becomes treadle's, and back.

A class of torch.nn becomes the class of the same name in `treadle.torch`. A subclass of it becomes
a class of its own name that derives from both, in this order: the subclass, then treadle's. Where
the subclass says ``super().forward(...)``, Python then finds treadle's ``forward``; all else that
it defines stays in force, and ``isinstance`` is true of all classes that it was true of before.

PyTorch itself makes classes while a program runs (parametrizations, fully_shard): their base is
exchanged instead, since PyTorch later takes away what it has added.
"""

from __future__ import annotations

import sys
import types
from typing import TYPE_CHECKING, Any

import torch

from treadle.torch import cells, modules
from treadle.torch.multihead import MultiheadAttention

if TYPE_CHECKING:
    from collections.abc import Callable

CLASSES: dict[type, type] = {
    **modules.CLASSES,
    **cells.CLASSES,
    torch.nn.MultiheadAttention: MultiheadAttention,
}
_THEIRS = {ours: theirs for theirs, ours in CLASSES.items()}

# Methods that PyTorch's ``forward`` calls and treadle's does not.
_INSIDE = (
    "check_input",
    "check_forward_args",
    "check_hidden_size",
    "get_expected_hidden_size",
    "get_expected_cell_size",
    "permute_hidden",
    "merge_masks",
)


def accelerated(kind: type) -> type | str | None:
    """Return treadle's class for a class, a reason why there is none, or None for other classes."""
    if not issubclass(kind, tuple(CLASSES)) or issubclass(kind, tuple(CLASSES.values())):
        return None
    if kind in CLASSES:
        return CLASSES[kind]
    if _is_made_by_pytorch(kind):
        bases = [accelerated(base) or base for base in kind.__bases__]
        reasons = [base for base in bases if isinstance(base, str)]
        return reasons[0] if reasons else _on(kind, bases)
    return _accelerated_subclass(kind)


def restored(kind: type) -> type | None:
    """Return the class that a class of treadle stands for, or None for other classes."""
    if kind in _THEIRS:
        return _THEIRS[kind]
    if "_stands_for" in vars(kind):
        return vars(kind)["_stands_for"]
    if _is_made_by_pytorch(kind) and issubclass(kind, tuple(_THEIRS)):
        bases = [restored(base) or base for base in kind.__bases__]
        return None if bases == list(kind.__bases__) else _on(kind, bases)
    return None


def _is_made_by_pytorch(kind: type) -> bool:
    """Tell whether PyTorch has made a class at run time: nothing can be imported by its name."""
    name = kind.__module__
    return name.startswith("torch.") and not hasattr(sys.modules.get(name), kind.__name__)


def _on(kind: type, bases: list[Any]) -> type:
    """Return a class like another one, on other bases."""
    own = {k: v for k, v in vars(kind).items() if k not in ("__dict__", "__weakref__")}
    return types.new_class(kind.__name__, tuple(bases), exec_body=lambda names: names.update(own))


def _accelerated_subclass(kind: type) -> type | str:
    """Return a class that derives from a user's class and from treadle's, or a reason."""
    known: list[type] = kind.__subclasses__()
    for made in known:
        if vars(made).get("_stands_for") is kind:
            return made
    theirs = next(base for base in kind.__mro__ if base in CLASSES)
    for base in kind.__mro__[: kind.__mro__.index(theirs)]:
        replaced = [name for name in _INSIDE if name in vars(base)]
        if replaced:
            return f"{base.__qualname__} is a subclass that replaces {replaced[0]}"
        forward = vars(base).get("forward")
        if forward is not None and not _calls_super(forward):
            return f"{base.__qualname__} is a subclass whose forward does not call super().forward"

    def body(names: dict[str, Any]) -> None:
        names["__module__"], names["__qualname__"] = kind.__module__, kind.__qualname__
        names["__doc__"], names["_stands_for"] = kind.__doc__, kind
        names["__reduce_ex__"] = _reduce_ex

    try:
        return types.new_class(kind.__name__, (kind, CLASSES[theirs]), exec_body=body)
    except TypeError as error:  # the class may not be derived from, or not without arguments
        return f"{kind.__qualname__} is a subclass from which no class can be derived: {error}"


def _calls_super(function: Any) -> bool:
    """Tell whether a method, or a function inside it, names ``super`` and ``forward``."""
    pending = [getattr(function, "__code__", None)]
    names: set[str] = set()
    while pending:
        code = pending.pop()
        if isinstance(code, types.CodeType):
            names.update(code.co_names)
            pending.extend(code.co_consts)
    return {"super", "forward"} <= names


def _reduce_ex(self: torch.nn.Module, protocol: int) -> tuple[Any, ...]:
    """Return the parts of a pickle or a copy, in which the user's class stands for the one made."""
    made = next(base for base in type(self).__mro__ if "_stands_for" in vars(base))
    kind: Any = vars(made)["_stands_for"]
    parts: tuple[Any, ...] = kind.__reduce_ex__(self, protocol)
    make, arguments, *rest = parts
    if arguments[:1] != (made,):  # the user's class has a way of its own
        return parts
    return (_make, (make, kind, *arguments[1:]), *rest)


def _make(make: Callable[..., Any], kind: type, *arguments: Any) -> Any:
    """Make an object of a pickle, on treadle's kernels as the one that was pickled."""
    made = accelerated(kind)
    return make(made if isinstance(made, type) else kind, *arguments)

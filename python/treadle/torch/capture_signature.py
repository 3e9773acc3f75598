"""This module names the inputs and outputs of a module that is captured.

Inputs have the names of forward's parameters; those in a tuple, list or dict have its index or key
behind (``state_0``). Outputs have the keys of a dict, a dataclass or a named tuple, and are called
``output``, ``output_1``, ... otherwise.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree as pytree

from treadle.torch.capture_builder import DTYPES, FUNCTION

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from treadle.torch.tensors import TensorLike

_BAKED = (int, float, bool, str, type(None), torch.dtype, torch.device)


class Inputs:
    """These are the example inputs of a module: tensors by name, everything else as it is."""

    def __init__(self, module: torch.nn.Module, examples: Any) -> None:
        args, kwargs = _arguments(examples)
        try:
            self._bound = inspect.signature(module.forward).bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{FUNCTION}: example_inputs do not fit forward: {error}") from None
        kinds = self._bound.signature.parameters
        paths, self._tree = pytree.tree_flatten_with_path(dict(self._bound.arguments))
        self._leaves = [leaf for _, leaf in paths]
        self._places: list[int] = []
        self.names: list[str] = []
        self.groups: list[str] = []  # the parameters that the inputs belong to
        self.tensors: list[TensorLike] = []
        for place, (path, leaf) in enumerate(paths):
            keys = [_key(part) for part in path]
            own = keys[1:] if _is_kwargs(kinds.get(keys[0])) else keys
            name = "_".join(own)
            if isinstance(leaf, np.ndarray):
                leaf = torch.from_numpy(leaf)
            if not isinstance(leaf, torch.Tensor):
                if not isinstance(leaf, _BAKED):
                    raise TypeError(
                        f"{FUNCTION}: the input {name} is of type {type(leaf).__name__}, expected "
                        "tensors, numbers, and tuples, lists and dicts of them"
                    )
                continue
            if leaf.dtype not in DTYPES or leaf.dtype is torch.float64:
                raise ValueError(
                    f"{FUNCTION}: the input {name} is {leaf.dtype}, expected float32, bfloat16, "
                    "float16, integers or bool"
                )
            self._places.append(place)
            self.names.append(_unused(name, self.names))
            self.groups.append(own[0])
            self.tensors.append(leaf)
        if not self.tensors:
            raise ValueError(f"{FUNCTION}: example_inputs have no tensor")

    def call(self, tensors: Sequence[TensorLike]) -> tuple[Any, Any]:
        """Return the arguments of forward with other tensors."""
        leaves = list(self._leaves)
        for place, tensor in zip(self._places, tensors, strict=True):
            leaves[place] = tensor
        arguments = pytree.tree_unflatten(leaves, self._tree)
        bound = inspect.BoundArguments(self._bound.signature, arguments)
        return bound.args, bound.kwargs


def _arguments(examples: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(examples, Mapping):
        return (), dict(examples)
    if isinstance(examples, tuple | list) and not hasattr(examples, "_fields"):
        return tuple(examples), {}
    return (examples,), {}


def _is_kwargs(parameter: inspect.Parameter | None) -> bool:
    return parameter is not None and parameter.kind is inspect.Parameter.VAR_KEYWORD


def _key(part: Any) -> str:
    """Return the index, key or attribute of a step into a tree."""
    for name in ("key", "idx", "name"):
        if hasattr(part, name):
            return str(getattr(part, name))
    return str(part)


def _unused(name: str, names: Sequence[str]) -> str:
    found, number = name, 1
    while found in names:
        found, number = f"{name}_{number}", number + 1
    return found


class Outputs:
    """These are the outputs of a module, whose names are known when it has been recorded."""

    def __init__(self, wanted: Sequence[str] | None, inputs: Sequence[str]) -> None:
        self._wanted = None if wanted is None else [str(name) for name in wanted]
        if isinstance(wanted, str):
            self._wanted = [wanted]
        found = self._wanted or []
        double = [name for name in found if name in inputs or found.count(name) > 1 or not name]
        if double:
            raise ValueError(
                f"{FUNCTION}: output_names has {double[0]!r}, expected names that differ from each "
                f"other and from the inputs' ({', '.join(inputs)})"
            )
        self._inputs = list(inputs)
        self.names: list[str] = []

    def flat(self, result: Any) -> tuple[Any, ...]:
        """Return the tensors and numbers of what forward returned, and keep their names."""
        found = list(_leaves((), result))
        if not found:
            raise ValueError(f"{FUNCTION}: forward returns no tensor")
        names: list[str] = []
        for path, _ in found:
            named = any(isinstance(part, str) for part in path)
            name = "_".join(map(str, path)) if named else _numbered(names)
            name = f"{name}_out" if name in self._inputs else name
            names.append(_unused(name, [*names, *self._inputs]))
        if self._wanted is not None:
            if len(self._wanted) != len(names):
                raise ValueError(
                    f"{FUNCTION}: output_names has {len(self._wanted)} names, expected "
                    f"{len(names)}: for {', '.join(names)}"
                )
            names = self._wanted
        self.names = names
        return tuple(leaf for _, leaf in found)


def _numbered(names: Sequence[str]) -> str:
    return f"output_{len(names)}" if names else "output"


def _leaves(path: tuple[Any, ...], value: Any) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Go through the tensors and numbers of a result, with the keys that lead to them."""
    if isinstance(value, PackedSequence):
        raise NotImplementedError(
            f"{FUNCTION}: forward returns a PackedSequence: return what pad_packed_sequence makes "
            "of it"
        )
    parts: Any
    if value is None:
        return
    if isinstance(value, Mapping):
        parts = value.items()
    elif is_dataclass(value) and not isinstance(value, type):
        parts = [(field.name, getattr(value, field.name)) for field in fields(value)]
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        parts = zip(value._fields, value, strict=True)
    elif isinstance(value, tuple | list):
        parts = enumerate(value)
    else:
        kinds = (torch.Tensor, int, float, bool, torch.SymInt, torch.SymFloat, torch.SymBool)
        if not isinstance(value, kinds):
            raise TypeError(
                f"{FUNCTION}: forward returns {type(value).__name__}, expected tensors, numbers, "
                "and tuples, lists, dicts and dataclasses of them"
            )
        yield path, value
        return
    for key, part in parts:
        yield from _leaves((*path, key), part)

"""This module decides when PyTorch's own code has to run, and warns once for each reason."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch

import treadle

if TYPE_CHECKING:
    from collections.abc import Iterable

    from treadle.torch.tensors import TensorLike

_WARNED: set[tuple[str, str]] = set()


def obstacle(tensors: Iterable[TensorLike]) -> str | None:
    """Return why treadle cannot run on these tensors, here and now, or None."""
    compiling = torch.compiler.is_compiling()
    if not compiling:
        if torch.jit.is_tracing():
            return "it is being traced by torch.jit"
        if torch._C._functorch.maybe_current_level() is not None:
            return "a function transform (torch.func) is at work"
    if torch.is_autocast_enabled("cpu"):
        return "autocast is on"
    for tensor in tensors:
        if not isinstance(tensor, torch.Tensor):
            return f"an argument is of type {type(tensor).__name__}"
        if not tensor.is_cpu:
            return f"a tensor is on {tensor.device}"
        if tensor.dtype is not torch.float32:
            return f"a tensor is {tensor.dtype}"
        if tensor.layout is not torch.strided:
            return f"a tensor is {tensor.layout}"
        if not compiling and (tensor.is_neg() or tensor._is_zerotensor()):
            return "a tensor is a lazy view"
    return None


def fall_back(what: object, reason: str) -> None:
    """Warn once that PyTorch's own code runs, for a module or for a function by its name."""
    name = what if isinstance(what, str) else type(what).__name__
    key = name, reason
    if key not in _WARNED and not torch.compiler.is_compiling():
        _WARNED.add(key)
        own = "function" if isinstance(what, str) else "forward"
        warnings.warn(
            f"treadle.torch.{name}: {reason}; torch's own {own} runs instead",
            stacklevel=_callers_level(),
        )


def _callers_level() -> int:
    """Return the ``stacklevel`` by which a warning of the calling function names the line that
    called a module. Frames of PyTorch (hooks, containers) and of treadle lie between them."""
    own = tuple(f"{Path(str(package.__file__)).parent}{os.sep}" for package in (torch, treadle))
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(own):
        level, frame = level + 1, frame.f_back
    return level

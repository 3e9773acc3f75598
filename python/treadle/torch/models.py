"""This module lets existing models run on treadle's kernels, by changing them in place."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from treadle._public import published
from treadle.torch.classes import accelerated, restored
from treadle.torch.fallback import obstacle
from treadle.torch.fast_path import allow_fast_path, keep_off_fast_path


@published("treadle.torch")
@dataclass(frozen=True)
class Report:
    """A report of what `accelerate` did, by the names of ``model.named_modules()``.

    Examples
    --------
    >>> import torch, treadle.torch
    >>> model = torch.nn.Sequential(torch.nn.GRU(8, 16), torch.nn.GRU(16, 16).double())
    >>> report = treadle.torch.accelerate(model)
    >>> report.replaced, report.left
    ({'0': 'GRU'}, {'1': 'a tensor is torch.float64'})
    """

    replaced: dict[str, str]
    """Name to class."""
    left: dict[str, str]
    """Name to the reason, of modules that still run on PyTorch."""

    def __str__(self) -> str:
        lines = [
            f"{name or '(the model)'}: {kind} runs on treadle"
            for name, kind in self.replaced.items()
        ]
        lines += [f"{name or '(the model)'}: left, {why}" for name, why in self.left.items()]
        return "\n".join(lines) or "no recurrent or attention module found"


@published("treadle.torch")
def accelerate(model: torch.nn.Module) -> Report:
    """Let the recurrent and attention modules of a model run, and train, on treadle's kernels.

    A module stays the same object, with the same parameters, hooks and state_dict; only its class
    becomes the class of the same name in `treadle.torch`, which derives from PyTorch's. A module of
    a subclass gets a class of the same name that derives from the subclass and from treadle's: a
    ``forward`` of the subclass runs as before, and its ``super().forward`` is treadle's. Modules
    that treadle cannot run in their present form stay as they are, and so do subclasses with a
    ``forward`` without ``super().forward``; the report says why. PyTorch's encoder layers whose
    attention becomes treadle's no longer take their fast path, which would go around it. `restore`
    undoes the change. torch.jit.script and PyTorch's quantization need PyTorch's own classes.

    Raises
    ------
    TypeError
        If the argument is no torch.nn.Module.

    Examples
    --------
    >>> import torch, treadle.torch
    >>> parts = {"encoder": torch.nn.GRU(8, 16), "head": torch.nn.Linear(16, 2)}
    >>> model = torch.nn.ModuleDict(parts)
    >>> print(treadle.torch.accelerate(model))
    encoder: GRU runs on treadle
    >>> treadle.torch.restore(model)
    >>> type(model["encoder"]) is torch.nn.GRU
    True
    """
    replaced, left = {}, {}
    for name, module in _modules("accelerate", model):
        made = accelerated(type(module))
        if made is None:
            continue
        reason = made if isinstance(made, str) else obstacle(module.parameters())
        if reason is not None:
            left[name] = reason
            continue
        replaced[name] = type(module).__name__
        module.__class__ = made
    for _, module in _modules("accelerate", model):
        keep_off_fast_path(module)
    return Report(replaced, left)


@published("treadle.torch")
def restore(model: torch.nn.Module) -> None:
    """Give the modules that `accelerate` has changed back their classes of torch.nn.

    Modules that were constructed as modules of `treadle.torch` become PyTorch's, too; modules of
    other subclasses of these classes stay as they are.

    Raises
    ------
    TypeError
        If the argument is no torch.nn.Module.

    Examples
    --------
    >>> import torch, treadle.torch
    >>> model = torch.nn.Sequential(treadle.torch.GRU(8, 16))
    >>> treadle.torch.restore(model)
    >>> type(model[0]) is torch.nn.GRU
    True
    """
    modules = _modules("restore", model)
    for _, module in modules:
        allow_fast_path(module)
    for _, module in modules:
        kind = restored(type(module))
        if kind is not None:
            module.__class__ = kind


def _modules(function: str, model: torch.nn.Module) -> list[tuple[str, torch.nn.Module]]:
    if not isinstance(model, torch.nn.Module):
        raise TypeError(
            f"treadle.torch.{function}: model is {type(model).__name__}, expected a torch.nn.Module"
        )
    return list(model.named_modules())

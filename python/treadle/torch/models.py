"""This module lets existing models run on treadle's kernels, by changing them in place."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from treadle._public import published
from treadle.torch import cells, modules
from treadle.torch.fallback import obstacle
from treadle.torch.multihead import MultiheadAttention

CLASSES: dict[type, type] = {
    **modules.CLASSES,
    **cells.CLASSES,
    torch.nn.MultiheadAttention: MultiheadAttention,
}


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
    becomes the class of the same name in `treadle.torch`. Modules of other classes, also subclasses
    that define ``forward``, stay as they are, and so do modules that treadle cannot run in their
    present form; the report says why. `restore` undoes the change, as second derivatives and
    torch.jit.script require.

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
        kind = type(module)
        if kind in CLASSES.values():
            continue
        if kind not in CLASSES:
            if isinstance(module, tuple(CLASSES)):
                left[name] = f"{kind.__qualname__} is a subclass"
            continue
        reason = obstacle(module.parameters())
        if reason is not None:
            left[name] = reason
            continue
        module.__class__ = CLASSES[kind]
        replaced[name] = kind.__name__
    return Report(replaced, left)


@published("treadle.torch")
def restore(model: torch.nn.Module) -> None:
    """Give the modules that `accelerate` has changed back their classes of torch.nn.

    Modules that were constructed as modules of `treadle.torch` become PyTorch's, too.

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
    theirs = {ours: kind for kind, ours in CLASSES.items()}
    for _, module in _modules("restore", model):
        if type(module) in theirs:
            module.__class__ = theirs[type(module)]


def _modules(function: str, model: torch.nn.Module) -> list[tuple[str, torch.nn.Module]]:
    if not isinstance(model, torch.nn.Module):
        raise TypeError(
            f"treadle.torch.{function}: model is {type(model).__name__}, expected a torch.nn.Module"
        )
    return list(model.named_modules())

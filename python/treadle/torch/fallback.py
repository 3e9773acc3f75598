"""This module decides when PyTorch's own code has to run, and warns once for each reason."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.autograd import forward_ad
from torch.utils._device import DeviceContext

import treadle

if TYPE_CHECKING:
    from collections.abc import Iterable

    from treadle.torch.tensors import TensorLike

_WARNED: set[tuple[str, str]] = set()
# These names are looked up in every call.
_modes = torch._C._len_torch_dispatch_stack
_function_modes = torch._C._len_torch_function_stack
_level = torch._C._functorch.maybe_current_level
_is_batch = torch._C._functorch.is_legacy_batchedtensor
_included = torch._C._dispatch_tls_is_dispatch_key_included
_tracing, _autocast = torch._C._get_tracing_state, torch.is_autocast_enabled
_UNSEEN = (torch.Tensor, torch.nn.Parameter, type(None))


def watched(tensors: tuple[object, ...]) -> bool:
    """Tell whether PyTorch records, transforms or watches what runs on these tensors.

    Then operators have to run rather than kernels: in a graph of torch.compile, torch.export or
    make_fx, under any mode (a FLOP counter, fake tensors), under torch.func, in forward mode, and
    for tensors of a subclass and proxies of torch.fx.
    """
    if torch.compiler.is_compiling() or _modes() or _level() is not None:
        return True
    if forward_ad._current_level >= 0 or (_function_modes() and not _device_alone()):
        return True
    for tensor in tensors:
        if type(tensor) not in _UNSEEN and hasattr(type(tensor), "__torch_function__"):
            return True
    return False


def undisturbed() -> bool:
    """Tell whether nothing is at work for which `watched` or `obstacle` would look at tensors.

    What tensors themselves say is left: their class, dtype and memory.
    """
    return not (
        torch.compiler.is_compiling()
        or _modes()
        or _function_modes()
        or _level() is not None
        or forward_ad._current_level >= 0
        or _tracing() is not None
        or _autocast("cpu")
    )


def refuse_tangents(operator: str) -> None:
    """Raise where an operator of a graph would lose the tangents of forward mode.

    Modules and functions take a formula there, which a graph that was recorded before cannot.
    """
    if forward_ad._current_level >= 0:
        raise NotImplementedError(
            f"treadle.torch: forward-mode differentiation of a graph with the operator {operator}: "
            "call the module or function itself, which has a formula for it"
        )


def recorded_early() -> bool:
    """Tell whether a graph is recorded before dispatch, as torch.export's.

    `watched` knows it by the graph's function mode, which has let go when it calls a function back.
    """
    return bool(_included(torch._C.DispatchKey.PreDispatch))


def transform() -> str | None:
    """Return which kind of differentiation or batching takes its own operators, or None."""
    if _level() is not None:
        return "a function transform (torch.func) is at work"
    if forward_ad._current_level >= 0:
        return "forward-mode differentiation is at work"
    return None


def of_backward(upstream: tuple[TensorLike | None, ...]) -> str | None:
    """Return why a backward pass takes a formula that PyTorch differentiates or batches, or None.

    ``upstream`` are the gradients of the results.
    """
    if torch.is_grad_enabled():  # create_graph=True
        return "its gradients are differentiated"
    if any(grad is not None and _is_batch(grad) for grad in upstream):  # is_grads_batched=True
        return "a batch of gradients is computed"
    return transform()


def _device_alone() -> bool:
    """Tell whether no mode but torch.set_default_device or ``with torch.device`` is at work."""
    modes = map(torch._C._get_function_stack_at, range(_function_modes()))
    return all(isinstance(mode, DeviceContext) for mode in modes)


def obstacle(tensors: Iterable[TensorLike]) -> str | None:
    """Return why treadle cannot run on these tensors, here and now, or None."""
    if torch.compiler.is_compiling():
        if torch.onnx.is_in_onnx_export():
            return "it is being exported to ONNX"
    elif torch._C._get_tracing_state() is not None:
        return "it is being traced by torch.jit"
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
    return None


def fall_back(
    what: object, reason: str, instead: str = "torch's own {}", room: str = "treadle.torch"
) -> None:
    """Warn once that other code runs, for a module or for a function of a room by its name."""
    name = what if isinstance(what, str) else type(what).__name__
    key = name, reason
    if key not in _WARNED and not torch.compiler.is_compiling():
        _WARNED.add(key)
        own = instead.format("function" if isinstance(what, str) else "forward")
        warnings.warn(f"{room}.{name}: {reason}; {own} runs instead", stacklevel=_callers_level())


def _callers_level() -> int:
    """Return the ``stacklevel`` by which a warning of the calling function names the line that
    called a module. Frames of PyTorch and Keras (hooks, containers) and of treadle lie between."""
    packages = [torch, treadle, *filter(None, [sys.modules.get("keras")])]
    own = tuple(f"{Path(str(package.__file__)).parent}{os.sep}" for package in packages)
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(own):
        level, frame = level + 1, frame.f_back
    return level

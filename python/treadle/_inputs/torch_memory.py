"""This module decides whether the numbers of a PyTorch tensor lie in memory that NumPy can read.

A tensor may have a shape and a dtype and yet no numbers of its own: fake tensors and tensors of
function transforms stand for others, the numbers of a zero tensor or of a view with the negative
bit are made when an operator reads them, and a storage can be freed or shrunk behind a tensor. The
protocols by which NumPy takes memory do not look at all of that, and would hand out numbers with
the wrong sign or whatever lies in memory. PyTorch is never imported here: it is there already where
somebody has a tensor.
"""

from __future__ import annotations

import sys
from math import prod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType


def is_tensor(value: object) -> bool:
    """Tell whether an object is a torch.Tensor, without importing PyTorch."""
    tensor = getattr(sys.modules.get("torch"), "Tensor", None)
    return tensor is not None and isinstance(value, tensor)


def materialised(function: str, name: str, tensor: Any) -> Any:
    """Return a tensor whose numbers lie in plain memory of the CPU, with the same numbers.

    That is the tensor itself, or a new one for a zero tensor and a view with the negative or the
    conjugate bit. TypeError says of all others why they have no such memory and what to do.
    """
    torch = sys.modules["torch"]
    fault = _fault(torch, name, tensor)
    if fault is not None:
        found, remedy = fault
        raise TypeError(f"{function}: {name} {found}, expected numbers in the CPU's memory{remedy}")
    if tensor._is_zerotensor():
        return torch.zeros(tensor.shape, dtype=tensor.dtype)
    return tensor.resolve_conj().resolve_neg()


def refuse_tracing(function: str, name: str) -> None:
    """Raise TypeError where PyTorch records operators: an array that is made there from a tensor
    would stand in the graph as a constant. (Where torch.jit traces, PyTorch itself warns.)
    """
    torch = sys.modules["torch"]
    modes = torch._ops
    if torch._C._len_torch_dispatch_stack() or modes._len_torch_dispatch_stack_pre_dispatch():
        keys = torch._C._TorchDispatchModeKey
        recording = [
            torch._C._get_dispatch_mode(k) for k in (keys.PROXY, keys.FUNCTIONAL, keys.FAKE)
        ]
        recording += [
            modes._get_dispatch_mode_pre_dispatch(k) for k in (keys.PROXY, keys.FUNCTIONAL)
        ]
        if any(recording):
            raise TypeError(
                f"{function}: {name} is a tensor while PyTorch records a graph, in which the "
                "result would be a constant: call the modules and functions of treadle.torch"
            )


def holds(tensor: Any) -> bool:
    """Tell whether the storage of a strided tensor is as large as its shape and strides need."""
    end = tensor.storage_offset() * tensor.element_size()
    if tensor.is_contiguous():
        end += tensor.nbytes
    elif prod(tensor.shape):
        steps = zip(tensor.shape, tensor.stride(), strict=True)
        end += tensor.element_size() * (1 + sum((n - 1) * step for n, step in steps))
    return bool(tensor.untyped_storage().nbytes() >= end or not prod(tensor.shape))


def _fault(torch: ModuleType, name: str, tensor: Any) -> tuple[str, str] | None:
    """Return (what is wrong with the memory of a tensor, what to do about it), or None."""
    if tensor.is_nested:
        return "is nested", f": pad it, with {name}.to_padded_tensor(0), and pass lengths"
    dispatch = type(tensor).__torch_dispatch__
    if dispatch != torch.Tensor.__torch_dispatch__ or torch._is_functional_tensor(tensor):
        return (
            f"is a {type(tensor).__name__} that keeps its numbers elsewhere or has none",
            ": call the modules and functions of treadle.torch, or pass a plain torch.Tensor",
        )
    if tensor.is_quantized:
        return "is quantized", f": {name}.dequantize()"
    if tensor.layout is not torch.strided:
        return f"has the layout {tensor.layout}", f": {name}.to_dense()"
    if tensor.device.type != "cpu":
        return f"is on the device {tensor.device}", f": copy it there first, with {name}.cpu()"
    try:
        enough = tensor._is_zerotensor() or holds(tensor)
    except NotImplementedError:
        return (
            "belongs to a function transform (torch.func)",
            ": call the modules and functions of treadle.torch there",
        )
    if not enough:
        size = tensor.untyped_storage().nbytes()
        return (
            f"has a storage of {size} bytes, which was freed or shrunk below what its shape needs",
            ": restore its storage, or pass a copy made before",
        )
    return None

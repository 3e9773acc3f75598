"""This module lets PyTorch's tools meet treadle's modules: fx, torch.jit.script, FLOP counters.

A tool either works on an accelerated model or says what to do.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.flop_counter import register_flop_formula

from treadle.torch import attention_ops, ops  # noqa: F401 - they make the operators
from treadle.torch.fallback import fall_back

if TYPE_CHECKING:
    from collections.abc import Sequence


class ForTools:
    """The part of treadle's modules that PyTorch's tools ask."""

    theirs: type[torch.nn.Module]

    def __prepare_scriptable__(self) -> torch.nn.Module:
        """Return PyTorch's module with the same parameters, which torch.jit.script can compile.

        torch.jit.script itself puts it in the place of this one in the model that it compiles.
        """
        restored = import_module("treadle.torch.classes").restored
        kind: Any = restored(type(self)) or self.theirs
        fall_back(self, "torch.jit.script cannot compile it", "torch's own module")
        module: torch.nn.Module = kind.__new__(kind)
        module.__dict__.update(self.__dict__)
        return module

    @property
    def qconfig(self) -> object:
        """The configuration that PyTorch's quantization hands to every module of a model.

        It quantizes its own classes alone, and passes over others without a word: here a warning
        says so.
        """
        if "qconfig" not in self.__dict__:
            raise AttributeError("qconfig")
        return self.__dict__["qconfig"]

    @qconfig.setter
    def qconfig(self, value: object) -> None:
        self.__dict__["qconfig"] = value
        fall_back(
            self,
            "PyTorch's quantization does not know treadle's classes: call treadle.torch.restore "
            'before it, or treadle.from_torch(module).to("int8") instead of it',
            "the module as it is",
        )

    @qconfig.deleter
    def qconfig(self) -> None:
        if "qconfig" not in self.__dict__:
            raise AttributeError("qconfig")
        del self.__dict__["qconfig"]


def node_of(module: torch.nn.Module, input: Any, *arguments: object, **options: object) -> Any:
    """Return the node of torch.fx that calls a module on a proxy.

    torch.fx takes PyTorch's own modules as nodes, and looks into all others.
    """
    target = input.tracer.path_of_module(module)
    given = {name: value for name, value in options.items() if value is not None}
    return input.tracer.create_proxy("call_module", target, (input, *arguments), given)


# FLOP counters count operators by these formulas: the products, as they count PyTorch's own.


@register_flop_formula(torch.ops.treadle.recurrent)
def _recurrent(
    x: Sequence[int], h: object, c: object, weights: Sequence[Sequence[int]], *_: object, **__: Any
) -> int:
    entries = sum(shape[0] * shape[1] for shape in weights if len(shape) == 2)
    return 2 * x[0] * x[1] * entries


@register_flop_formula(torch.ops.treadle.recurrent_backward)
def _recurrent_backward(*arguments: Any, **_: Any) -> int:
    return 2 * _recurrent(*arguments[:4])


@register_flop_formula(torch.ops.treadle.attention)
def _attention(
    query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: object, **__: Any
) -> int:
    B, N, S, E = query
    return 2 * B * N * S * key[2] * (E + value[3])


@register_flop_formula(torch.ops.treadle.attention_backward)
def _attention_backward(
    query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: object, **__: Any
) -> int:
    B, N, S, E = query
    return 2 * B * N * S * key[2] * (3 * E + 2 * value[3])

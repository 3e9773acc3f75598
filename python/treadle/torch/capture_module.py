"""This module turns an nn.Module into a model that needs no PyTorch."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import torch

from treadle._public import published
from treadle.graph.model import Model
from treadle.torch.capture_axes import Axes
from treadle.torch.capture_builder import FUNCTION, Final
from treadle.torch.capture_graph import graph_of
from treadle.torch.capture_program import Flat, record
from treadle.torch.capture_signature import Inputs, Outputs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TypeAlias

    from treadle.graph.ir import Graph

    _Choice: TypeAlias = "bool | Sequence[int] | Mapping[int, str | bool | None] | None"
    Dynamic: TypeAlias = "bool | Mapping[str, _Choice] | None"

_ONE_AT_A_TIME = threading.RLock()


@published("treadle.torch")
def capture(
    module: torch.nn.Module,
    example_inputs: Any,
    *,
    dynamic: Dynamic = None,
    output_names: Sequence[str] | None = None,
) -> Model:
    """Turn an nn.Module into a `treadle.Model` that runs, and is saved and loaded, without PyTorch.

    The module's ``forward`` is recorded once, by torch.export, in evaluation mode. The module stays
    as it is, and the model has copies of its weights: float16 and bfloat16 are widened to float32,
    a weight that is used twice is kept once. Recurrent layers stay whole, with lengths where
    ``forward`` packs its sequences (pack_padded_sequence, in any order of lengths); modules that
    `accelerate` has changed are recorded as those of PyTorch.

    Parameters
    ----------
    module
        A module whose parameters are on the CPU, in float32, float16 or bfloat16.
    example_inputs
        The arguments of ``forward``: a tensor, a tuple of arguments or a dict of named ones. They
        may hold tuples, lists and dicts of tensors; what is no tensor becomes part of the model.
        The numbers in tensors play no part, only dtypes and shapes.
    dynamic
        The axes whose sizes calls may choose. None or True: all axes for which the module works
        with any size, also where the example has size 1, if that is the batch's (before PyTorch
        2.6 the batch alone). False: none.
        A dict names them, and says how sizes are called:
        ``{"x": {0: "batch", 1: "time"}}`` or ``{"x": (0, 1)}``; axes of one name have one size.
    output_names
        The names of the outputs, in order. Left out: the keys of a dict, the fields of a dataclass
        or named tuple, and else ``output``, ``output_1``, ...; an output that is called as an input
        gets ``_out`` behind its name.

    Returns
    -------
    treadle.Model
        Its inputs are called as the parameters of ``forward``; those in a tuple, list or dict have
        its index or key behind (``state_0``). With one output, a call returns the array. Results
        are those of the module to rounding.

    Raises
    ------
    TypeError
        If an argument is of the wrong type.
    ValueError
        If an axis that ``dynamic`` names is fixed by the module, the way of the module depends on
        numbers, or it is no module of the CPU. The message says where in the source.
    NotImplementedError
        If an operation cannot be captured: the message says which, and where in the source.

    Notes
    -----
    Where ``forward`` itself looks at sizes (``if x.shape[1] > 512``), the way of the examples is
    recorded, and the model refuses sizes that would take another.

    Examples
    --------
    >>> import torch, treadle.torch
    >>> from torch import nn
    >>> module = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    >>> model = treadle.torch.capture(module, torch.zeros(1, 8))
    >>> model
    Model(input: float32 [batch, 8]) -> output: float32 [batch, 2]
    >>> model(torch.zeros(5, 8)).shape
    (5, 2)
    """
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"{FUNCTION}: module is {type(module).__name__}, expected torch.nn.Module")
    if isinstance(module, torch.jit.ScriptModule):
        raise TypeError(
            f"{FUNCTION}: module is a torch.jit.ScriptModule, expected the module before "
            "torch.jit.script or torch.jit.trace"
        )
    graph = captured(module, example_inputs, dynamic, output_names)
    return Model(graph, single=True)


def captured(
    module: torch.nn.Module,
    example_inputs: Any,
    dynamic: Dynamic = None,
    output_names: Sequence[str] | None = None,
) -> Graph:
    """Return the graph of a module, as `capture` does."""
    given = Inputs(module, example_inputs)
    axes = Axes(given, dynamic)
    ends = Outputs(output_names, given.names)
    flat = Flat(module, given.call, ends.flat)
    last: Exception | None = None
    with _ONE_AT_A_TIME:
        for trial in axes.trials():
            try:
                recorded = record(flat, trial)
                axes.check(recorded.program, trial)
                return graph_of(recorded, given.names, ends.names, axes.named(trial))
            except (ValueError, NotImplementedError) as error:
                # Other axes may do; what no axis is to blame for is final.
                last = error
                if isinstance(error, Final):
                    raise
    assert last is not None
    raise last

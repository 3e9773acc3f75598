"""This module records a module by torch.export, and says in plain words why that fails."""

from __future__ import annotations

import logging
import re
import traceback
import warnings
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from treadle.torch.capture_builder import _OWN, FUNCTION, Choice, key_of
from treadle.torch.capture_conditions import conditions_kept
from treadle.torch.capture_recurrent import kept_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from treadle.torch.capture_axes import Trial
    from treadle.torch.capture_conditions import Condition
    from treadle.torch.tensors import TensorLike

_QUIET = (
    "torch.export", "torch._export", "torch._export.non_strict_utils", "torch.export._trace",
    "torch.fx.experimental.symbolic_shapes", "torch._dynamo", "torch.export.exported_program",
)  # fmt: skip
# What these do has no result: checks of sizes that recording relies on.
IGNORED = frozenset(
    f"aten.{name}.default"
    for name in (
        "_assert_scalar", "_assert_async", "_assert_tensor_metadata", "sym_constrain_range",
        "sym_constrain_range_for_size", "_functional_assert_scalar", "_functional_assert_async",
    )
) | {"aten._assert_async.msg", "aten._functional_assert_async.msg"}  # fmt: skip
# These hold a graph that runs in place, whatever else they set meanwhile.
INLINED = ("wrap_with_set_grad_enabled", "wrap_with_autocast", "tag_activation_checkpoint")
_ROUNDS = 4  # how often operators are taken apart into others


class Flat(torch.nn.Module):
    """A Flat module takes and returns plain tuples of tensors.

    ``call`` turns tensors into the arguments of the module, ``flat`` its result into tensors.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        call: Callable[[Sequence[TensorLike]], tuple[Any, Any]],
        flat: Callable[[Any], tuple[Any, ...]],
    ) -> None:
        super().__init__()
        self.module = module
        self._call, self._flat = call, flat

    def forward(self, *tensors: TensorLike) -> tuple[Any, ...]:
        args, kwargs = self._call(tensors)
        return self._flat(self.module(*args, **kwargs))


class Recorded(NamedTuple):
    """This tuple has torch.export's program of a module, and its source's conditions on sizes."""

    program: Any
    conditions: list[Condition]


def record(flat: Flat, trial: Trial) -> Recorded:
    """Return a recorded module, whose marked axes have sizes of any number.

    Raises ValueError or NotImplementedError with what stands in the way.
    """
    try:
        axes = tuple(
            {axis: _any_size(trial, (number, axis)) for axis, on in enumerate(row) if on}
            for number, row in enumerate(trial.marked)
        )
        with _recording(flat.module) as conditions:
            program = _export(flat, tuple(trial.tensors), {"tensors": axes})
            program = program.run_decompositions({})
            return Recorded(_taken_apart(program), conditions)
    except Exception as error:
        raise _explained(error) from error


def _any_size(trial: Trial, place: tuple[int, int]) -> Any:
    """Return PyTorch's word for an axis that may have any size.

    Before PyTorch 2.6 an axis has to be free, and axes of one size need one name.
    """
    dim = torch.export.Dim
    if hasattr(dim, "AUTO"):
        return dim.AUTO
    return dim(trial.names.get(place, "size_{}_{}".format(*place)))


def _export(flat: Flat, examples: tuple[Any, ...], axes: dict[str, Any]) -> Any:
    """Export a module in the form that keeps linear layers, norms and attention whole."""
    options: dict[str, Any] = {"dynamic_shapes": axes, "strict": False}
    if hasattr(torch.export.Dim, "AUTO"):
        return torch.export.export(flat, examples, **options)
    from torch.export._trace import _export as export  # 2.4 and 2.5 take everything apart

    return export(flat, examples, pre_dispatch=True, **options)


@contextmanager
def _recording(module: torch.nn.Module) -> Iterator[list[Condition]]:
    """Record in evaluation mode, without gradients, fast paths and warnings, and keep what the
    module's source asks about sizes.
    """
    loggers = [logging.getLogger(name) for name in _QUIET]
    levels = [logger.level for logger in loggers]
    modes = [(part, part.training) for part in module.modules()]
    fast = torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as undo:
        undo.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        undo.enter_context(torch.no_grad())
        undo.callback(torch.backends.mha.set_fastpath_enabled, fast)
        torch.backends.mha.set_fastpath_enabled(False)
        for logger, level in zip(loggers, levels, strict=True):
            undo.callback(logger.setLevel, level)
            logger.setLevel(logging.ERROR)
        for part, mode in modes:
            undo.callback(setattr, part, "training", mode)
            part.training = False
        undo.enter_context(kept_whole())
        yield undo.enter_context(conditions_kept())


def targets(graph_module: Any) -> list[Any]:
    """Return the nodes of a recorded graph that compute, those of graphs in it included."""
    found = []
    for part in graph_module.modules():
        if isinstance(part, torch.fx.GraphModule):
            found += [node for node in part.graph.nodes if node.op == "call_function"]
    return found


def supported(node: Any) -> bool:
    """Tell whether a recorded node is in the table, or has no result."""
    if key_of(node.target) is not None or str(node.target) in IGNORED:
        return True
    return str(getattr(node.target, "__name__", "")) in INLINED


def _taken_apart(program: Any) -> Any:
    """Return a program whose operators that are not in the table are taken apart by PyTorch's own
    decompositions, as far as there are any."""
    for _ in range(_ROUNDS):
        missing = {n.target for n in targets(program.graph_module) if not supported(n)}
        table = {op: how for op in missing if (how := _decomposition(op)) is not None}
        if not table:
            break
        program = program.run_decompositions(table)
    return program


def _decomposition(op: Any) -> Any:
    """Return PyTorch's function that computes an operator by others, or None."""
    if not isinstance(op, torch._ops.OpOverload):
        return None
    composite = getattr(import_module("torch._export.utils"), "_get_decomp_for_cia", None)
    key = torch._C.DispatchKey.CompositeImplicitAutograd
    if composite is not None and torch._C._dispatch_has_kernel_for_dispatch_key(op.name(), key):
        return composite(op)
    return import_module("torch._decomp").core_aten_decompositions().get(op)


def _explained(error: Exception) -> Exception:
    """Return an error in treadle's words for what PyTorch raised while it recorded."""
    text = str(error).strip()
    if text.startswith(FUNCTION):
        return type(error)(text)
    where = _place(error)
    names = " ".join(kind.__name__ for kind in type(error).__mro__)
    if "DataDependent" in names or "data-dependent" in text.lower():
        return Choice(
            f"{FUNCTION}: what the module does depends on the numbers in a tensor, which are not "
            f"known when it is captured: {where}\n"
            "  Compute both ways and choose by torch.where, give the choice to forward as a Python "
            "argument, or let lengths be a tensor (pack_padded_sequence takes one)"
        )
    first = re.sub(r"\s+", " ", text.split("\n\n")[0])[:400]
    kind = ValueError if isinstance(error, ValueError | TypeError | RuntimeError) else None
    return (kind or NotImplementedError)(
        f"{FUNCTION}: torch.export cannot record the module: {type(error).__name__}: {first}\n"
        f"  {where}"
    )


def _place(error: BaseException) -> str:
    """Return the last line of the user's source that an error came through."""
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        if not frame.filename.startswith((*_OWN, "<")):
            return f"{frame.filename}:{frame.lineno} in {frame.name}: {frame.line}"
    return "a place that PyTorch does not tell"

"""This module lets treadle's recurrent modules into the graphs of torch.compile and torch.export.

TorchDynamo, which records these graphs, refuses every instance of torch.nn.LSTM, GRU and RNN when
it meets one, since it cannot record their ``forward``. The ``forward`` of treadle's subclasses is
one operator, which it can. An option of its own, ``allow_rnn``, takes the refusal back; here it is
set for the moment in which Dynamo meets a module of treadle, and only then, so that PyTorch's own
modules are treated as ever.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec, PathFinder
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

_BUILDER = "torch._dynamo.variables.builder"


def let_pass(cls: type) -> None:
    """Let TorchDynamo record what the instances of a class do, now or when it is imported.

    Dynamo is not imported for it, which takes longer than all the rest of PyTorch.
    """
    if _BUILDER in sys.modules:
        _admit(sys.modules[_BUILDER], cls)
    else:
        sys.meta_path.insert(0, _Finder(cls))


def _admit(builder: ModuleType, cls: type) -> None:
    kind, config = builder.VariableBuilder, builder.config
    if not hasattr(config, "allow_rnn"):
        return  # an older PyTorch breaks the graph at these modules, and runs them
    wrap = kind.wrap_module

    def wrap_module(self: Any, value: Any) -> Any:
        if not isinstance(value, cls):
            return wrap(self, value)
        with config.patch(allow_rnn=True):
            return wrap(self, value)

    kind.wrap_module = wrap_module


class _Finder:
    """A finder that waits for Dynamo's module, and changes it when it has been executed."""

    def __init__(self, cls: type) -> None:
        self._cls = cls

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _BUILDER:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        loader: Any = spec.loader
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module
            execute(module)
            _admit(module, self._cls)

        loader.exec_module = exec_module
        return spec

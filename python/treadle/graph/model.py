"""Model: a whole model, read from a file or captured from a module, as treadle runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from treadle.graph.inputs import gathered, returned, signature
from treadle.graph.plan import lower

if TYPE_CHECKING:
    from treadle import _core
    from treadle._inputs.types import ArrayLike
    from treadle.graph.ir import Graph, Value


class Model:
    """A whole model that runs natively, without the framework that it comes from.

    Models come from `treadle.onnx.load`, `treadle.torch.capture` and `treadle.load`; nobody calls
    the constructor. A call takes the inputs by name or in order and returns a dict of arrays by
    output name, or the only output as an array where the model says ``single``. Any number of
    threads may call a model at the same time. A row of a batch has the same bits alone and in any
    batch, whatever the number of threads, wherever the model treats rows alike.

    Attributes
    ----------
    inputs, outputs : tuple of Value
        The names, dtypes and shapes; a str in a shape is a size that calls choose.
    """

    def __init__(self, graph: Graph, *, name: str = "treadle.Model", single: bool = False) -> None:
        self._graph = graph
        self._name = name
        self._single = single and len(graph.outputs) == 1
        self._program: _core.Program = lower(name, graph)

    @property
    def inputs(self) -> tuple[Value, ...]:
        return tuple(self._graph.inputs)

    @property
    def outputs(self) -> tuple[Value, ...]:
        return tuple(self._graph.outputs)

    def __call__(self, *args: ArrayLike, **named: ArrayLike) -> Any:
        """Run the model. Raises TypeError or ValueError for inputs that do not fit, with what the
        model expects, and MemoryError.
        """
        arrays = gathered(self._name, self._graph.inputs, args, named)
        results = self._program.run(self._name, arrays)
        outputs = self._graph.outputs
        if self._single:
            return returned(outputs[0], results[0])
        return {value.name: returned(value, r) for value, r in zip(outputs, results, strict=True)}

    def __repr__(self) -> str:
        inputs, outputs = signature(self._graph.inputs), signature(self._graph.outputs)
        return f"{self._name}({inputs}) -> {outputs}"

"""This module defines `treadle.Model`: a whole model as treadle runs it, wherever it comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from treadle._inputs import checks
from treadle._public import published
from treadle.graph.files import About, write
from treadle.graph.inputs import WIDENED, Inputs, returned, signature
from treadle.graph.ir import Graph, Node, Value
from treadle.graph.optimise import Report, copied, optimise
from treadle.graph.plan import lower
from treadle.graph.precision import products, retyped
from treadle.graph.stream import ModelStream
from treadle.graph.streaming import streaming

if TYPE_CHECKING:
    from treadle._inputs.types import AnyArray, ArrayLike
    from treadle._storage.files import Path
    from treadle.graph.summary import Table

_FUNCTION = "treadle.Model"


@published("treadle")
class Model:
    """A whole model that runs natively, without the framework that it comes from.

    Models come from `treadle.onnx.load`, `treadle.torch.capture` and `treadle.load`; nobody calls
    the constructor. A call takes the inputs by name or in order and returns a dict of arrays by
    output name, or the only output as an array where the model says ``single``. Any number of
    threads may call a model at the same time. A row of a batch has the same bits alone and in any
    batch, whatever the number of threads, wherever the model treats rows alike.

    Attributes
    ----------
    single : bool
        A call returns the only output itself and no dict.
    graph : Graph
        The graph that runs, after all fusions. It must not be changed.
    report : treadle.graph.optimise.Report
        Which fusions were made.
    time : dict of str to int or None
        The axis of time of each input that has one, for `stream`, where shapes do not tell.
    table : treadle.graph.summary.Table or None
        The layers of the file of Keras that the model comes from, for `summary`.

    Examples
    --------
    >>> import numpy as np, treadle
    >>> from treadle.graph import Graph, Node, Value
    >>> x, y = (Value(name, "float32", ("B", 2)) for name in "xy")
    >>> model = treadle.Model(Graph([x], [y], [Node("Relu", ["x"], ["y"])], {}))
    >>> model
    Model(x: float32 [B, 2]) -> y: float32 [B, 2]
    >>> model(np.array([[-1, 2]], np.float32))["y"]
    array([[0., 2.]], dtype=float32)
    """

    def __init__(
        self,
        graph: Graph,
        *,
        single: bool = False,
        optimised: bool = False,
        time: Mapping[str, int] | None = None,
        table: Table | None = None,
    ) -> None:
        self.report = Report()
        if not optimised:
            graph, self.report = optimise(graph)
        self.graph = graph
        self.single = single and len(graph.outputs) == 1
        self.time = dict(time) if time else None
        self.table = table
        self._inputs = Inputs(_FUNCTION, graph.inputs)
        self._names = [value.name for value in graph.outputs]
        halves = any(value.dtype in WIDENED for value in graph.outputs)
        self._returned = list(graph.outputs) if halves else None
        self._program = lower(_FUNCTION, graph)

    @property
    def inputs(self) -> tuple[Value, ...]:
        """The names, dtypes and shapes of the inputs; a str stands for a size of a call."""
        return tuple(self.graph.inputs)

    @property
    def outputs(self) -> tuple[Value, ...]:
        """The names, dtypes and shapes of the outputs, in their order."""
        return tuple(self.graph.outputs)

    @property
    def signature(self) -> str:
        """The inputs and outputs in one line."""
        return f"({signature(self.graph.inputs)}) -> {signature(self.graph.outputs)}"

    @property
    def weight_bytes(self) -> int:
        """The bytes of all constants, as they would be saved."""
        return sum(_bytes(value) for value in self.graph.constants.values())

    def __call__(self, *args: ArrayLike, **named: ArrayLike) -> Any:
        """Run the model. Raises TypeError or ValueError for inputs that do not fit, with what the
        model expects, and MemoryError.
        """
        results = self._run(args, named)
        return results[0] if self.single else dict(zip(self._names, results, strict=True))

    def _run(self, args: tuple[Any, ...], named: dict[str, Any]) -> list[AnyArray]:
        """Run the model and return its outputs in their order."""
        results = self._inputs.run(self._program, args, named)
        if self._returned is not None:  # files in float16
            results = [returned(v, r) for v, r in zip(self._returned, results, strict=True)]
        return results

    def to(self, dtype: str, *, keep: Iterable[str] = ()) -> Model:
        """Return a model whose products and recurrent layers have weights of another dtype.

        ``dtype`` is "float32", "bfloat16" or "int8"; sums, activations and all other operators stay
        float32. The products of the nodes named in ``keep`` stay as they are: names are those of
        `Node.name` (`products` lists them). Rounding is not undone by a way back.

        Raises
        ------
        ValueError
            For another dtype, or a name that no product has.
        """
        function = "treadle.Model.to"
        dtype = checks.dtype(function, "dtype", dtype)
        kept = {keep} if isinstance(keep, str) else set(keep)
        unknown = kept - set(self.products)
        if unknown:
            names = ", ".join(self.products)
            raise ValueError(f"{function}: keep has {min(unknown)!r}, expected some of {names}")
        graph = copied(self.graph)
        retyped(graph, dtype, lambda node: node.name in kept)
        other = Model(graph, optimised=True, **self._about())
        other.report = self.report
        return other

    @property
    def products(self) -> list[str]:
        """The names of the nodes that have a dtype, for `to`."""
        return list(dict.fromkeys(node.name for node in products(self.graph)))

    def save(self, path: Path) -> None:
        """Write the model for `treadle.load`, which needs no framework to read it."""
        write(path, self.graph, About(**self._about()))

    def summary(
        self, line_length: int | None = None, print_fn: Callable[[str], object] | None = None
    ) -> None:
        """Print the table of layers of a model that comes from a file of Keras, as Keras does.

        The lines have ``line_length`` characters, by default as many as the terminal, at most 88,
        or 108 where the layers form no chain. ``print_fn`` is called with the whole text in the
        place of `print`. The table is kept by `save`, `to` and copies.

        Raises
        ------
        ValueError
            For a model that does not come from a file of Keras (``treadle info`` describes any
            file), and for a ``line_length`` that is too small.
        """
        if self.table is None:
            raise ValueError(
                "treadle.Model.summary: the model has no table of layers, expected one that "
                "treadle.keras.load made; model.graph.nodes are the nodes of this one"
            )
        text = self.table.text(line_length)
        if print_fn is None:
            print(text, end="")
        else:
            print_fn(text)

    def _about(self) -> dict[str, Any]:
        """Return what a copy of the model takes over, beside the graph."""
        return {"single": self.single, "time": self.time, "table": self.table}

    def stream(
        self,
        batch_size: int = 1,
        state: Mapping[str, str] | None = None,
        *,
        initial: Mapping[str, ArrayLike] | None = None,
        time: Mapping[str, int] | None = None,
    ) -> ModelStream:
        """Make a `ModelStream`: this model with a state of ``batch_size`` independent rows.

        The inputs and outputs that are its state are found by name and shape (``state`` and
        ``stateN``, ``h`` and ``hn``, ``in_cache`` and ``out_cache``, ...), or given as
        {input: output}. The state begins as zeros, or as the arrays of ``initial``.

        A model for whole sequences that carries no state, but looks only back, streams as well: its
        convolutions along time keep the end of their input, its recurrent layers their state. A
        step then takes any number of frames, and its outputs are the next ones of the whole
        sequence. ``time`` gives the axis of time of each input that has one, where shapes do not
        tell, and for a model that has a state and frames.

        Raises
        ------
        ValueError
            For inputs and outputs that cannot be a state; for a model that has none and needs more
            than the frames so far: the message names the node and why (both directions, attention,
            pooling or norms over time, padding on both sides, strides).
        """
        function = "treadle.Model.stream"
        model, states = streaming(function, self, state, time)
        return ModelStream(function, model, states, batch_size, initial=initial, single=self.single)

    def _pooled(self, function: str, state: Any, fixed: Any, time: Any) -> Any:
        """Return this model as a `treadle.StreamPool` uses it."""
        from treadle.graph.pooled import PooledModel

        model, states = streaming(function, self, state, time)
        return PooledModel(function, model, states, fixed or {}, single=self.single)

    def trace(self, *args: ArrayLike, **named: ArrayLike) -> dict[str, AnyArray]:
        """Run the model and return every value of its graph by name, its outputs included.

        The outputs have the bits of the plain call. Values within a branch or a loop are not among
        them. Names are those of the model's file where a value has survived the fusions.
        """
        arrays = self._inputs.gathered(args, named)
        known = {value.name for value in self.graph.outputs}
        inner = [
            Value(name, "", None)
            for node in self.graph.nodes
            for name in node.outputs
            if name and name not in known
        ]
        graph = copied(self.graph)
        graph.outputs += inner
        results = lower(_FUNCTION, graph).run(_FUNCTION, arrays)
        return {value.name: array for value, array in zip(graph.outputs, results, strict=True)}

    def profile(self, *args: ArrayLike, **named: ArrayLike) -> list[tuple[Node, float]]:
        """Run the model once and return the seconds that each node of its graph took."""
        arrays = self._inputs.gathered(args, named)
        _, seconds = self._program.profile(_FUNCTION, arrays)
        return list(zip(self.graph.nodes, seconds, strict=True))

    def __getstate__(self) -> dict[str, Any]:
        return {"graph": self.graph, "about": self._about(), "report": self.report}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["graph"], optimised=True, **state["about"])  # type: ignore[misc]
        self.report = state["report"]

    def __repr__(self) -> str:
        return f"Model{self.signature}"


def _bytes(value: Any) -> int:
    """Return the bytes of a constant."""
    return sum(part.nbytes for part in value) if isinstance(value, tuple) else value.nbytes

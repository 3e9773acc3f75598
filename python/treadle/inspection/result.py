"""The result of a traced call: its output, and named arrays of what went on inside."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from treadle._inputs.checks import shown
from treadle.inspection.words import texts

if TYPE_CHECKING:
    import os

    from treadle._inputs.types import AnyArray, Float


class Trace(Mapping[str, "Float"]):
    """A mapping of names to float32 arrays, with the output of the call that was traced.

    ``trace["layer0.forward.gates.forget"]`` is the forget gate of the first layer, forward in time.
    A name has the parts layer, direction, kind (``gates``, ``states``, ``self_attention``, ...) and
    quantity; `treadle.inspection` lists them. Arrays are read-only. A value that was not computed,
    such as a gate behind the end of a sequence, is NaN.

    Attributes
    ----------
    output
        What the plain call returns, with the same bits.
    names
        The names of the arrays, in the order of the computation.
    tokens
        The words of the steps, which plots write at their axes; None until they are known. They may
        be set, to one text for each step.

    Examples
    --------
    >>> import numpy as np, treadle
    >>> trace = treadle.trace(treadle.GRU(2, 4, seed=0))(np.ones((3, 1, 2), np.float32))
    >>> trace.names
    ('layer0.forward.gates.reset', 'layer0.forward.gates.update', 'layer0.forward.gates.new', \
'layer0.forward.states.hidden')
    >>> trace["layer0.forward.gates.update"].shape, trace.axes("layer0.forward.gates.update")
    ((3, 1, 4), ('time', 'batch', 'unit'))
    """

    def __init__(self, title: str, output: Any) -> None:
        self.title = title
        self.output = output
        self._arrays: dict[str, Float] = {}
        self._axes: dict[str, tuple[str, ...]] = {}
        self._tokens: tuple[str, ...] | None = None

    def add(self, name: str, array: AnyArray, axes: tuple[str, ...]) -> None:
        """Record an array under a new name, with a name for each of its axes."""
        if name in self._arrays:
            raise ValueError(f"treadle.trace: {name} is recorded already")
        if array.ndim != len(axes):
            raise ValueError(f"treadle.trace: {name} has {array.ndim} axes, expected {axes}")
        kept = np.array(array, np.float32, order="C")
        kept.flags.writeable = False
        self._arrays[name], self._axes[name] = kept, axes

    def include(self, prefix: str, other: Trace) -> None:
        """Record all arrays of another trace under names that begin with ``prefix``."""
        for name, array in other.items():
            self.add(prefix + name, array, other.axes(name))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the arrays."""
        return tuple(self._arrays)

    @property
    def tokens(self) -> tuple[str, ...] | None:
        """The words of the steps, or None."""
        return self._tokens

    @tokens.setter
    def tokens(self, value: Iterable[str] | None) -> None:
        self._tokens = None if value is None else texts("treadle.Trace", "tokens", value)

    def axes(self, name: str) -> tuple[str, ...]:
        """Return the names of an array's axes. Raises KeyError for an unknown name."""
        self[name]
        return self._axes[name]

    def to_dict(self) -> dict[str, Float]:
        """Return the arrays by their names, in a new dict."""
        return dict(self._arrays)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all arrays into a file that ``numpy.load`` reads (npz), and takes their names.

        The entry ``axes`` lists the names of the arrays with those of their axes. An output that is
        one array is the entry ``output``. The file appears when it is complete.
        """
        import os

        from treadle._storage.files import replaced

        listed = [f"{name}: {', '.join(axes)}" for name, axes in self._axes.items()]
        others: dict[str, AnyArray] = {"axes": np.array(listed, np.str_)}
        if isinstance(self.output, np.ndarray):
            others["output"] = self.output
        with replaced(os.fspath(path)) as file:
            np.savez(file, **others, **self._arrays)  # type: ignore[arg-type]  # names have dots

    def __getitem__(self, name: str) -> Float:
        try:
            return self._arrays[name]
        except (KeyError, TypeError):
            few = ", ".join(self.names[:8]) + (", ..." if len(self._arrays) > 8 else "")
            raise KeyError(f"{shown(name)} is no name of this trace, which has {few}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def _repr_html_(self) -> str:
        """Return one self-contained SVG of the first arrays, for notebooks."""
        from treadle.inspection.html import html

        return html(self)

    def __repr__(self) -> str:
        return f"<trace of {self.title}: {len(self)} arrays>"

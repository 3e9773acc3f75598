"""The result of a traced call: its output, and named arrays of what went on inside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from treadle.inspection.record import Record

if TYPE_CHECKING:
    import os


class Trace(Record):
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

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the trace into a file, which appears when it is complete.

        ``.npz`` holds all arrays under their names, for ``numpy.load``: the entry ``axes`` lists
        the names of the arrays with those of their axes, and an output that is one array is the
        entry ``output``. ``.html`` is a page that needs nothing else. ``.png``, ``.svg`` and
        ``.pdf`` are pictures of the first attention map and of the gates and states of the first
        layer, for which Matplotlib (the extra ``plot``) is there.

        Raises ValueError for another ending, and for a picture of a trace that has nothing of this.
        """
        from treadle.inspection.files import write

        write(self, path)

    def _repr_html_(self) -> str:
        """Return one self-contained SVG of the first arrays, for notebooks."""
        from treadle.inspection.html import html

        return html(self)

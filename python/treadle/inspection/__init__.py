"""Seeing inside a model: gates, states and gradients by name.

trace          runs a module and records what goes on inside
Trace          the record: named float32 arrays with named axes, and the output of the call
gradient_flow  the gradients of a loss by every state, and their norms
saliency       gradient times input of each step
plot           pictures of them on Matplotlib's axes

The arrays of a recurrent net have the axes time, batch and unit, also of a layer with
``batch_first``; an axis that the input does not have is left out. A name is
``layer<number>.<direction>.<kind>.<quantity>`` with the direction ``forward`` or ``reverse``:

=================  ===============================================================
name               value
=================  ===============================================================
states.hidden      h, the output of the layer (projected where it projects)
states.cell        c of an LSTM, the memory cell
gates.input        i of an LSTM: how much of the candidate enters the cell
gates.forget       f of an LSTM: how much of the cell stays
gates.cell         g of an LSTM: the candidate for the cell
gates.output       o of an LSTM: how much of the cell is shown
gates.reset        r of a GRU: how much of the state the candidate sees
gates.update       z of a GRU: how much of the state stays
gates.new          n of a GRU: the candidate for the state
=================  ===============================================================

Attention has the axes batch, head, query and key, those of `treadle.Seq2Seq` no head.
``attention.probabilities`` is that of a `treadle.MultiheadAttention`,
``layer0.self_attention.probabilities`` that of a layer of an encoder or decoder. In a model that
has both, ``encoder.`` or ``decoder.`` stands before it, and ``cross_attention`` leads from the text
that is written to the text that is read. ``decoder.attention.probabilities`` is that of a
`treadle.Seq2Seq`, beside the gates and states of both its sides. ``layer0.states.hidden`` is the
output of a layer, ``embedding.states.hidden`` the input of the first.

All are values after activation. Behind weights in bfloat16 and int8 they are the gates of those
rounded weights.
"""

from treadle._public import publish
from treadle.inspection import plot
from treadle.inspection.gradients import gradient_flow, saliency
from treadle.inspection.result import Trace
from treadle.inspection.tracing import trace

__all__ = ["Trace", "gradient_flow", "plot", "saliency", "trace"]

publish(__name__, globals(), __all__)

"""This module knows in which order Keras keeps the gates of a recurrent layer, and turns it.

Keras has one kernel [I, G*H] and one recurrent_kernel [H, G*H], whose columns are those of the
gates i, f, c, o (LSTM) or z, r, h (GRU), and a bias: [G*H], or [2, 3*H] of a GRU with
``reset_after``, the first row of which goes with the input. treadle's arrays are PyTorch's: rows,
of the gates i, f, g, o or r, z, n. The same code turns NumPy's arrays and PyTorch's tensors, whose
gradients then come back in Keras' order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

MODES = {"SimpleRNN": "rnn", "LSTM": "lstm", "GRU": "gru"}
"""The classes of Keras' layers, with treadle's modes."""


def turned(
    mode: str,
    weights: tuple[Any, Any, Any | None],
    join: Callable[[list[Any]], Any],
) -> tuple[Any, Any, Any | None, Any | None]:
    """Return (weight_ih [G*H, I], weight_hh [G*H, H], bias_ih [G*H], bias_hh [G*H]).

    mode     "rnn", "lstm" or "gru"
    weights  (kernel, recurrent_kernel, bias), the bias None if there is none
    join     numpy.concatenate or torch.cat

    A bias that Keras does not have is None. The matrices may be views of what was given.

    >>> import numpy as np
    >>> kernel = np.arange(6.0).reshape(2, 3)  # I = 2, H = 1
    >>> weight_ih, _, bias_ih, _ = turned("gru", (kernel, kernel[:1], None), np.concatenate)
    >>> weight_ih.tolist(), bias_ih
    ([[1.0, 4.0], [0.0, 3.0], [2.0, 5.0]], None)
    """
    kernel, recurrent, bias = weights
    bias_ih, bias_hh = bias, None
    if bias is not None and len(bias.shape) == 2:
        bias_ih, bias_hh = bias[0], bias[1]
    rows = kernel.T, recurrent.T, bias_ih, bias_hh
    if mode != "gru":
        return rows
    ih, hh, bias_ih, bias_hh = (
        None if given is None else _reset_first(given, join) for given in rows
    )
    return ih, hh, bias_ih, bias_hh


def _reset_first(rows: Any, join: Callable[[list[Any]], Any]) -> Any:
    """Return rows of the gates r, z, n, given those of z, r, h."""
    H = rows.shape[0] // 3
    return join([rows[H : 2 * H], rows[:H], rows[2 * H :]])

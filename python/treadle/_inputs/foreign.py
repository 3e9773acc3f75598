"""This module tells from which framework's layout a weight comes whose shape does not fit.

PyTorch, and treadle, have W [G*H, I] with the gates i, f, g, o (LSTM) or r, z, n (GRU) in its rows.
Keras has the transposes, with the gates i, f, c, o or z, r, h. ONNX has an axis of directions
before the rows, [D, G*H, I], and the gates i, o, f, c or z, r, h.
"""

from __future__ import annotations

Shape = tuple[int, ...]


def hint(found: Shape, expected: Shape) -> str:
    """Return the end of a message about a weight that has another framework's layout, or nothing.

    >>> hint((8, 64), (64, 8))
    '; it is transposed, as in Keras: pass its transpose (gates of a GRU are z, r, h there)'
    """
    if len(expected) == 2:
        if found == expected[::-1]:
            gates = " (gates of a GRU are z, r, h there)" if expected[1] > 1 else ""
            return f"; it is transposed, as in Keras: pass its transpose{gates}"
        if len(found) == 3 and found[1:] == expected and found[0] <= 2:
            gates = " (gates are i, o, f, c or z, r, h there)"
            return f"; it has ONNX's axis of directions: pass one of them{gates}"
        if len(found) == 3 and found[2] == expected[1] and found[0] * found[1] == expected[0]:
            return f"; it has gates on an axis of their own: pass its reshape to {expected}"
    if len(expected) == 1:
        if found == (2, *expected):
            return "; it has both biases, as a GRU of Keras: pass [0] as bias_ih, [1] as bias_hh"
        if found in ((1, 2 * expected[0]), (2, 2 * expected[0]), (2 * expected[0],)):
            return "; it has both biases, as ONNX's B: bias_ih is the first half, bias_hh the other"
    return ""

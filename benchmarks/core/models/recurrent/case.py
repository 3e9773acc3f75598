"""This module says what a case of a recurrent net is.

The letters are T time, B batch, I input, H hidden, P projection, D directions, L layers, G gates.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ...dtypes import FLOAT32, suffix

GATES = {"rnn": 1, "lstm": 4, "gru": 3}


@dataclass(frozen=True)
class NetCase:
    """One shape of a recurrent net. Its name is unique and made of the fields."""

    cell: str
    group: str
    T: int
    B: int
    I: int
    H: int
    reason: str
    L: int = 1
    D: int = 1
    P: int = 0
    nonlinearity: str = "tanh"
    lengths: tuple[int, ...] = field(default=(), repr=False)
    label: str = ""
    quick: bool = False
    dtype: str = FLOAT32

    kind = "recurrent"

    @property
    def name(self) -> str:
        """``lstm/step/1x1x128x128/int8``: cell, group, T x B x I x H, then what is special."""
        text = f"{self.cell}/{self.group}/{self.T}x{self.B}x{self.I}x{self.H}"
        if self.L > 1:
            text += f"-{self.L}layers"
        if self.D > 1:
            text += "-bi"
        if self.P:
            text += f"-proj{self.P}"
        if self.nonlinearity != "tanh":
            text += f"-{self.nonlinearity}"
        return text + (f"-{self.label}" if self.label else "") + suffix(self.dtype)

    @property
    def carried(self) -> bool:
        """Tell whether the case is a single step whose state goes from call to call."""
        return self.T == 1

    @property
    def gates(self) -> int:
        """The number of gates of the cell: 1, 4 or 3."""
        return GATES[self.cell]

    @property
    def output_size(self) -> int:
        """The size of h: P with a projection, else H."""
        return self.P or self.H

    def input_size(self, layer: int) -> int:
        """Return the size of the rows that `layer` reads."""
        return self.I if layer == 0 else self.D * self.output_size

"""This module says what a case of a convolution is, and draws its inputs.

The letters are B batch, C channels in, D channels out, P x Q taps, H x W pixels in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...core.dtypes import FLOAT32, Array

ConvInputs = tuple[Array, Array, Array]  # x, weight, bias


@dataclass(frozen=True)
class ConvCase:
    """One convolution of [B, C, H, W] with a bias, and relu behind it."""

    group: str
    B: int
    C: int
    D: int
    taps: tuple[int, int]
    H: int
    W: int
    reason: str
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    quick: bool = False

    kind = "conv"
    dtype = FLOAT32
    lengths = ()

    @property
    def name(self) -> str:
        """``conv/1x64x56x56-64-3x3``: B x C x H x W, D, the taps, then a stride."""
        text = f"conv/{self.B}x{self.C}x{self.H}x{self.W}-{self.D}-{self.taps[0]}x{self.taps[1]}"
        return text + (f"-s{self.stride[0]}" if self.stride != (1, 1) else "")

    @property
    def outputs(self) -> tuple[int, int]:
        """The pixels of the result, H' and W'."""
        axes = zip((self.H, self.W), self.taps, self.stride, self.padding, strict=True)
        height, width = ((n + 2 * p - j) // s + 1 for n, j, s, p in axes)
        return height, width


def make_inputs(case: ConvCase, seed: int = 4) -> ConvInputs:
    """Return x [B, C, H, W], weight [D, C, P, Q] and bias [D], normal."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((case.B, case.C, case.H, case.W), dtype=np.float32)
    weight = rng.standard_normal((case.D, case.C, *case.taps), dtype=np.float32)
    weight *= np.float32((case.C * case.taps[0] * case.taps[1]) ** -0.5)
    return x, weight, rng.standard_normal(case.D, dtype=np.float32)

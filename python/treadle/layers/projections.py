"""The parameters of multi-head attention: their names, their shapes and their initial values."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from treadle.layers.build import Shapes


def projection_shapes(
    hidden: int, kdim: int, vdim: int, bias: bool, add_bias_kv: bool = False
) -> Shapes:
    """Return the name and shape of each parameter, in PyTorch's order."""
    shapes: Shapes
    if kdim == vdim == hidden:
        shapes = {"in_proj_weight": (3 * hidden, hidden)}
    else:
        sizes = (hidden, kdim, vdim)
        shapes = {f"{k}_proj_weight": (hidden, n) for k, n in zip("qkv", sizes, strict=True)}
    if bias:
        shapes["in_proj_bias"] = (3 * hidden,)
    if add_bias_kv:
        shapes |= {"bias_k": (1, 1, hidden), "bias_v": (1, 1, hidden)}
    shapes["out_proj.weight"] = (hidden, hidden)
    if bias:
        shapes["out_proj.bias"] = (hidden,)
    return shapes


def projection_initial(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Return (a, b) for uniform values a - b to a + b by Glorot and Bengio (2010); biases are 0."""
    if name.endswith("bias"):
        return 0.0, 0.0
    if name.startswith("out_proj"):
        return 0.0, shape[-1] ** -0.5
    return 0.0, (6 / (shape[-1] + shape[-2])) ** 0.5

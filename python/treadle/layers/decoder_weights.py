"""The weights of a stack of layers: their names, their shapes, and the forms the core takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from treadle._inputs import checks
from treadle._inputs.arrays import to_float32
from treadle._storage import formats
from treadle.layers.activation import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from treadle._inputs.types import AnyArray, Float
    from treadle.layers.block_spec import BlockSpec, Relative
    from treadle.layers.build import Shapes

# These entries of the weights are numbers.
NUMBERS = {"embed_scale": 1.0, "logit_scale": 1.0, "logit_softcap": 0.0}
# The sizes and options that all layers of a stack share, since they share caches and buffers.
SHARED = (
    *("hidden", "heads", "kv_heads", "head_size", "feed_forward"),
    *("gated", "parallel", "norm_place", "cross_attention"),
)


def layer_shapes(spec: BlockSpec) -> tuple[Shapes, Shapes]:
    """Return the shapes of a layer's weights by name: those it must have, and those it may have."""
    hidden, inner, forward = spec.hidden, spec.heads * spec.head_size, spec.feed_forward
    projected = inner + 2 * spec.kv_heads * spec.head_size
    linears = {
        "self_attn.in_proj": (projected, hidden),
        "self_attn.out_proj": (hidden, inner),
        "linear1": (forward * (1 + spec.gated), hidden),
        "linear2": (hidden, forward),
    }
    norms = ["norm_attn", "norm_ff"]
    if spec.cross_attention:
        linears["cross_attn.in_proj"] = (3 * inner, hidden)
        linears["cross_attn.out_proj"] = (hidden, inner)
        norms.append("norm_cross")
    if spec.norm_place == "both":
        norms += [f"{name}_after" for name in norms]
    needed: Shapes = {f"{name}.weight": shape for name, shape in linears.items()}
    needed |= {f"{name}.weight": (hidden,) for name in norms}
    if spec.head_norm:
        needed |= {f"{name}.weight": (spec.head_size,) for name in ("q_norm", "k_norm")}
    optional: Shapes = {f"{name}.bias": shape[:1] for name, shape in linears.items()}
    if spec.norm == "layer":
        optional |= {f"{name}.bias": (hidden,) for name in norms}
    return needed, optional


def layer_options(function: str, spec: BlockSpec) -> dict[str, Any]:
    """Return a layer's description in the form that the core takes."""
    scale = spec.head_size**-0.5 if spec.scale is None else spec.scale
    options = {
        "heads": spec.heads,
        "kv_heads": spec.kv_heads,
        "head_size": spec.head_size,
        "feed_forward": spec.feed_forward,
        "activation": parse(function, "activation", spec.activation),
        "gated": spec.gated,
        "norm": spec.norm,
        "norm_place": spec.norm_place,
        "parallel": spec.parallel,
        "head_norm": spec.head_norm,
        "eps": spec.eps,
        "scale": scale,
        "softcap": spec.softcap or 0.0,
        "window": spec.window or 0,
        "causal": spec.causal,
        "relative": spec.relative is not None,
        "cross_attention": spec.cross_attention,
    }
    if spec.rotary is not None:
        options["frequencies"] = np.array(spec.rotary.frequencies, np.float32)
        options["rotary_factor"] = spec.rotary.factor
    return options


def converted(function: str, name: str, value: Any, shape: tuple[int, ...], dtype: str) -> Any:
    """Return a weight of this shape in the form in which ``dtype`` stores it."""
    kind = formats.stored_as(shape, dtype)
    if not isinstance(value, formats.Int8) and getattr(value, "dtype", None) != np.uint16:
        value = np.ascontiguousarray(to_float32(function, name, value))
    letters = "NK" if len(shape) == 2 else "N"
    checks.shape(function, name, _shaped(value), shape, letters)
    return value if formats.dtype_of(value) == kind else formats.encode(value, kind)


def _shaped(value: Any) -> AnyArray:
    """Return the array that has the shape of a weight."""
    array: AnyArray = value.integers if isinstance(value, formats.Int8) else value
    return array


def untwisted(spec: BlockSpec, name: str, value: Any) -> Any:
    """Return a weight of queries and keys whose heads pair number i with number half + i.

    Interleaved rotary positions pair number 2 i with number 2 i + 1. The products of queries and
    keys do not change when the numbers of both take other places.
    """
    if spec.rotary is None or not spec.rotary.interleaved:
        return value
    order = np.arange(spec.head_size)
    turned = 2 * len(spec.rotary.frequencies)
    order[:turned] = np.concatenate([order[:turned:2], order[1:turned:2]])
    if name in ("q_norm.weight", "k_norm.weight"):
        return value[order]
    if not name.startswith("self_attn.in_proj."):
        return value
    heads = spec.heads + spec.kv_heads
    rows = (np.arange(heads)[:, None] * spec.head_size + order).ravel()
    rest = np.arange(heads * spec.head_size, len(_shaped(value)))
    rows = np.concatenate([rows, rest])
    if isinstance(value, formats.Int8):
        return formats.Int8(value.integers[rows], value.scales[rows])
    return value[rows]


def buckets(distance: AnyArray, relative: Relative) -> AnyArray:
    """Return T5's buckets of distances from query to key.

    With n buckets for a direction, distances below n / 2 have one each, and the others share the
    rest on a logarithmic scale that ends at max_distance. The logarithm is rounded to float32, as
    in all implementations: where the scale meets an integer, that decides.
    """
    count, first = relative.buckets, np.zeros_like(distance)
    if relative.bidirectional:
        count //= 2
        first, distance = np.where(distance > 0, count, 0), np.abs(distance)
    else:
        distance = np.maximum(-distance, 0)
    exact = count // 2
    ratio = np.maximum(distance, 1).astype(np.float32) / np.float32(exact)
    scale = np.log(ratio) / np.float32(np.log(relative.max_distance / exact))
    far = exact + (scale * np.float32(count - exact)).astype(np.int64)
    return first + np.where(distance < exact, distance, np.minimum(far, count - 1))


def distances(function: str, specs: Sequence[BlockSpec], weight: Callable[[str], Any]) -> Any:
    """Return the numbers [N, D] of all heads and distances that matter, or None without them.

    ``weight("relative_bias")`` is the weight [buckets, heads].
    """
    kinds = {spec.relative for spec in specs if spec.relative is not None}
    if not kinds:
        return None
    if len(kinds) > 1:
        raise ValueError(f"{function}: layers have different relative positions, expected the same")
    relative = kinds.pop()
    assert relative is not None
    value = converted(
        function,
        "relative_bias",
        weight("relative_bias"),
        (relative.buckets, specs[0].heads),
        "float32",
    )
    reach = np.arange(-relative.max_distance, relative.max_distance + 1)
    table: Float = np.ascontiguousarray(value[buckets(reach, relative)].T)
    return table


def check_alike(function: str, specs: Sequence[BlockSpec]) -> None:
    """Refuse layers whose sizes differ."""
    for i, spec in enumerate(specs):
        for name in SHARED:
            own, first = getattr(spec, name), getattr(specs[0], name)
            if own != first:
                raise ValueError(
                    f"{function}: specs[{i}] has {name} {own}, expected {first} as specs[0] has, "
                    "since the layers share caches and buffers"
                )


def check_names(function: str, weights: Mapping[str, Any], known: set[str]) -> None:
    """Refuse weights that no part of the stack has."""
    for name in weights:
        if name not in known:
            raise ValueError(
                f"{function}: weights has {checks.shown(name)}, which the stack does not have; "
                "expected the names that its specs imply"
            )

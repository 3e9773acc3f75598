"""This module has the rules of nodes that remember: convolutions along time, recurrent nodes.

A convolution of J taps, d frames apart, reads the d (J - 1) frames before each frame: its tail. The
new graph reads Concat(tail, x) without padding, and the next tail is the end of that::

    padded with zeros on the left       x -> Conv(pads [d (J - 1), 0]) -> y
    a stream                            Concat(tail, x) -> Conv -> y, Slice -> the next tail

Convolutions that are padded on both sides and cut off behind (a Slice to -d (J - 1)), and those
behind a Pad, are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from treadle.graph.causal_site import Refused
from treadle.graph.ir import Node

if TYPE_CHECKING:
    from collections.abc import Callable

    from treadle.graph.causal_site import CausalSite

_TO_THE_END = 2**63 - 1


def _window(site: CausalSite, first: int) -> None:
    """Convolve along time and other axes; the axes from ``first`` on are those of the window."""
    axis, node, work = site.axis(0), site.node, site.work
    if axis is None or any(site.axis(place) is not None for place in (1, 2)):
        raise Refused("its weights have frames")
    if axis < first or (first == 1 and axis == site.rank(0) - 1):
        raise Refused("it sums over time")
    taps = _taps(site)
    place, spatial = axis - first, len(taps)
    extent = site.attribute("dilations", [1] * spatial)[place] * (taps[place] - 1)
    pads = list(site.attribute("pads", [0] * 2 * spatial))
    same = site.attribute("auto_pad", "NOTSET")
    if site.attribute("strides", [1] * spatial)[place] != 1:
        raise Refused("it makes a frame of several")
    if same not in ("NOTSET", "", "VALID") and (extent or spatial > 1):
        raise Refused(f"its padding is chosen by the size ({same})")
    left, right = work.lead.get(site.input(0), 0) + pads[place], pads[place + spatial]
    behind = right + work.trail.get(site.input(0), 0)
    if left < extent:
        raise Refused(
            f"it looks {extent - left} frames ahead"
            if left + right >= extent
            else f"its first {extent - left} frames of padding are missing: frames of its output "
            "would be late, expected zeros before the first frame"
        )
    if left > extent:
        raise Refused(f"its output begins {left - extent} frames before its input")
    if site.input(3) and (site.axis(3) != axis or behind):
        raise Refused("its residual input has other frames")
    if not extent:
        site.keep(axis, trail=behind)
        if right:
            _replaced(site, work.nodes.pop(), site.input(0), pads, place)
        return
    joined = _tail(site, axis, extent)
    _replaced(site, node, joined, pads, place)
    work.axes[node.outputs[0]] = axis
    work.trail[node.outputs[0]] = behind


def _replaced(site: CausalSite, node: Node, x: str, pads: list[int], place: int) -> None:
    """Emit a convolution that reads x and pads nothing in time."""
    free = list(pads)
    free[place] = free[place + len(pads) // 2] = 0
    attributes = {**node.attributes, "pads": free}
    attributes.pop("auto_pad", None)
    site.emit(Node(node.op, [x, *node.inputs[1:]], node.outputs, attributes, node.name))


def _taps(site: CausalSite) -> list[int]:
    """Return the sizes of a convolution's window."""
    if "kernel_shape" in site.node.attributes:
        return list(site.node.attributes["kernel_shape"])
    weight = site.work.constants.get(site.input(1))
    shape = getattr(weight, "shape", None)
    if shape is None:
        raise Refused("its weight is no constant")
    return list(shape[1:-1]) if site.node.op.startswith("treadle.") else list(shape[2:])


def _tail(site: CausalSite, axis: int, extent: int) -> str:
    """Put the last frames of the calls before ahead of the first input; return its new name."""
    work, name = site.work, site.node.outputs[0]
    shape: Any = work.known[site.input(0)].shape
    if shape is None:
        raise Refused("the size of its state is not known before a call")
    made, joined = work.name(f"{name}.tail"), work.name(f"{name}.frames")
    state = work.state(name, [*shape[:axis], extent, *shape[axis + 1 :]], made)
    site.emit(Node("Concat", [state, site.input(0)], [joined], {"axis": axis}, site.node.name))
    numbers = {
        label: work.constant(f"{name}.{label}", [number])
        for label, number in (("begin", -extent), ("end", _TO_THE_END), ("axis", axis))
    }
    site.emit(Node("Slice", [joined, *numbers.values()], [made], {}, site.node.name))
    return joined


def _conv(site: CausalSite) -> None:
    _window(site, 2)


def _conv_channels_last(site: CausalSite) -> None:
    _window(site, 1)


def _per_frame(first: int) -> Callable[[CausalSite], None]:
    """Return the rule of pooling and transposed convolution, which may not touch time."""

    def rule(site: CausalSite) -> None:
        axis = site.only_first()
        trail = site.plain()
        taps = _taps(site)
        place, spatial = axis - first, len(taps)
        if place < 0 or place >= spatial:
            raise Refused("it sums over time")
        pads = site.attribute("pads", [0] * 2 * spatial)
        same = (
            site.attribute("strides", [1] * spatial)[place] == 1
            and not pads[place]
            and not pads[place + spatial]
            and not site.attribute("output_padding", [0] * spatial)[place]
            and not site.attribute("output_shape", [])
        )
        if (
            taps[place] != 1
            or not same
            or site.attribute("auto_pad", "NOTSET") not in ("NOTSET", "")
        ):
            raise Refused("its window is over several frames")
        site.keep(axis, trail=trail)

    return rule


def _recurrent(site: CausalSite) -> None:
    """Carry the states of RNN, GRU and LSTM over x [T, B, I], or [B, T, I] with layout 1."""
    layout = site.attribute("layout", 0)
    _check_steps(site, layout, lengths=4)
    node = site.node
    node = Node(
        node.op,
        [*node.inputs, *[""] * (7 - len(node.inputs))],
        [*node.outputs, *[""] * (3 - len(node.outputs))],
        node.attributes,
        node.name,
    )
    hidden = site.attribute("hidden_size", 0) or (site.known(2).shape or (0, 0, 0))[2]
    batch = (site.known(0).shape or (None, None))[1 - layout]
    shape = [batch, 1, hidden] if layout else [1, batch, hidden]
    for place, out in ((5, 1), (6, 2)) if node.op == "LSTM" else ((5, 1),):
        _carry(site, node, place, out, shape)
    if node.op != "LSTM":
        del node.outputs[2:], node.inputs[6:]
    site.emit(node)
    site.work.axes[node.outputs[0]] = layout
    site.work.final.update(filter(None, node.outputs[1:]))


def _stack(site: CausalSite) -> None:
    """Carry the states of treadle.Recurrent over x [T, B, I], or [B, T, I] with batch_first.

    Where a mask skips the first steps of a call, their output is that of the call before, which is
    the state h that is carried.
    """
    first = 1 if site.attribute("batch_first", 0) else 0
    mask = 4 + len(site.attribute("weights", []))
    masked = bool(site.input(mask))
    if masked and site.axis(mask) != 1:
        raise Refused("its mask has no frames")
    _check_steps(site, first, lengths=3, mask=mask)
    node = site.node
    node = Node(
        node.op,
        list(node.inputs),
        [*node.outputs, *[""] * (3 - len(node.outputs))],
        {**node.attributes, "continued": 1} if masked else node.attributes,
        node.name,
    )
    hidden = site.attribute("hidden_size", 0)
    layers, batch = (
        site.attribute("num_layers", 1),
        (site.known(0).shape or (None, None))[1 - first],
    )
    _carry(site, node, 1, 1, [layers, batch, site.attribute("proj_size", 0) or hidden])
    if site.attribute("mode", "") == "lstm":
        _carry(site, node, 2, 2, [layers, batch, hidden])
    site.emit(node)
    site.work.axes[node.outputs[0]] = first
    site.work.final.update(filter(None, node.outputs[1:]))


def _check_steps(site: CausalSite, axis: int, lengths: int, mask: int = -1) -> None:
    """Refuse a recurrent node that does not go forwards along time, or has the input lengths.

    A mask may have frames, as the first input has.
    """
    others = [place for place in range(1, len(site.node.inputs)) if place != mask]
    if any(site.axis(place) is not None for place in others):
        raise Refused("another input than the first has frames")
    if site.axis(0) != axis:
        raise Refused("the axis of its steps is not that of time")
    if site.plain():
        raise Refused("frames behind the last one come before it, and no Slice cuts them")
    if site.attribute("direction", "forward") != "forward":
        raise Refused(f"its direction is {site.attribute('direction', '')}")
    if site.input(lengths):
        raise Refused("it has lengths")


def _carry(site: CausalSite, node: Node, place: int, out: int, shape: list[Any]) -> None:
    """Let a node begin at a state that is carried, unless the model carries it itself."""
    work, begin = site.work, node.inputs[place]
    if begin and work.read(begin) in work.given:
        return
    if begin and begin not in work.zeros:
        raise Refused(f"its first state {begin} is not known to be zero")
    label = node.outputs[0] or node.outputs[1]
    if not node.outputs[out]:
        node.outputs[out] = work.name(f"{label}.{'hc'[out - 1]}")
    node.inputs[place] = work.state(f"{label}.{'hc'[out - 1]}", shape, node.outputs[out])


RULES: dict[str, Callable[[CausalSite], None]] = {
    "Conv": _conv,
    "treadle.Conv": _conv_channels_last,
    "ConvTranspose": _per_frame(2),
    "treadle.ConvTranspose": _per_frame(1),
    "MaxPool": _per_frame(2),
    "AveragePool": _per_frame(2),
    "treadle.MaxPool": _per_frame(1),
    "treadle.AveragePool": _per_frame(1),
    "RNN": _recurrent,
    "GRU": _recurrent,
    "LSTM": _recurrent,
    "treadle.Recurrent": _stack,
}

"""This module writes Keras' recurrent layers as treadle.Recurrent.

A layer skips the steps that a mask marks: its states stay, and its output repeats the one before,
or is 0 with zero_output_for_mask. A layer that goes backwards gives its outputs in the order in
which it computes them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from treadle.keras.building.activations import of_cell
from treadle.keras.building.builder import Tensor, text
from treadle.keras.gates import turned

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from treadle._inputs.types import AnyArray
    from treadle.keras.building.site import Site

NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
MODES = {
    "SimpleRNN": "rnn",
    "SimpleRNNCell": "rnn",
    "LSTM": "lstm",
    "LSTMCell": "lstm",
    "GRU": "gru",
    "GRUCell": "gru",
}


@dataclass(slots=True)
class Net:
    """A Net is one direction of layers that run as one node, and what is given to it."""

    site: Site
    cells: list[Site]
    x: Tensor
    states: list[Tensor]
    mask: Tensor | None
    reverse: bool
    zeroed: bool
    """This is true where the outputs of steps that are skipped are 0."""

    def of_cell(self, number: int) -> list[Tensor]:
        """Return the initial states of a cell: h, and c of an LSTM; none where none are given."""
        counts = [2 if MODES[cell.layer.kind] == "lstm" else 1 for cell in self.cells]
        begin = sum(counts[:number])
        return self.states[begin : begin + counts[number]]


@dataclass(slots=True)
class Results:
    """Results are the outputs of a Net or two, in the order of time, and their last states."""

    y: Tensor
    """The outputs [B, T, R H] of R directions."""
    finals: list[list[Tensor]]
    """The last states of each cell: h_n [R, B, H], and c_n of an LSTM."""


def recurrent(site: Site) -> Tensor | list[Tensor]:
    """Return what LSTM, GRU, SimpleRNN, and RNN over cells make."""
    net = _net(site)
    results = _run([net])
    output = _output(net, results, 0, 1)
    if not site.option("return_state"):
        return output
    return [output, *_states(net, results, 0)]


def bidirectional(site: Site) -> Tensor | list[Tensor]:
    """Return what two layers make together. One of them goes backwards, and its outputs are turned
    round before they are merged.
    """
    nets = _both(site)
    config = site.layer.parts["forward"].config
    sequences, mode = config["return_sequences"], site.option("merge_mode")
    if _together(nets):
        results = _run(nets)
        outputs = [_output(net, results, i, 2) for i, net in enumerate(nets)]
        states = [one for i, net in enumerate(nets) for one in _states(net, results, i)]
        joined = results.y if sequences else None
    else:
        both = [_run([net]) for net in nets]
        outputs = [_output(*one, 0, 1) for one in zip(nets, both, strict=True)]
        states = [s for one in zip(nets, both, strict=True) for s in _states(*one, 0)]
        joined = None
        if sequences:
            outputs[1] = site.flip(outputs[1], 1)
    merged = _merged(site, mode, outputs, joined)
    mask = (site.kwargs.get("mask") or nets[0].x.mask) if sequences else None
    merged = [one.masked(mask) for one in merged]
    if config["return_state"]:
        return [*merged, *states]
    return merged if mode is None else merged[0]


def _merged(
    site: Site, mode: str | None, outputs: list[Tensor], joined: Tensor | None
) -> list[Tensor]:
    """Return the outputs of both layers merged; ``joined`` has them one behind the other."""
    if mode is None:
        return outputs
    if mode == "concat":
        return [site.concat(outputs, -1) if joined is None else joined]
    made = site.binary("Mul" if mode == "mul" else "Add", outputs[0], outputs[1])
    return [site.scaled(made, 0.5) if mode == "ave" else made]


# -- what is given --------------------------------------------------------------------------------


def _net(site: Site) -> Net:
    """Return what a recurrent layer is called with."""
    x, states = _arguments(site)
    mask = site.kwargs.get("mask")
    if mask is None and (not states or site.builder.version == 2):
        # Keras 3 hands the mask of a tensor on to layers of one tensor only.
        mask = x.mask
    cells = _cells(site)
    expected = sum(2 if MODES[cell.layer.kind] == "lstm" else 1 for cell in cells)
    if states and len(states) != expected:
        raise site.error(f"is called with {len(states)} initial states, expected {expected}")
    reverse, zeroed = site.option("go_backwards"), site.layer.config.get("zero_output_for_mask")
    return Net(site, cells, x, states, mask, bool(reverse), bool(zeroed))


def _arguments(site: Site) -> tuple[Tensor, list[Tensor]]:
    """Return the sequence [B, T, I] and the initial states [B, H]."""
    first, *rest = site.args or [None]
    given = site.kwargs.get("initial_state", rest[0] if rest else None)
    states = _flat(given)
    if isinstance(first, list | tuple):
        first, *more = first
        states = [*_flat(more), *states]
    if not isinstance(first, Tensor) or first.rank != 3:
        raise site.error("is called with no tensor [B, T, I]")
    return replace(site.floats(first), mask=first.mask), [site.floats(state) for state in states]


def _flat(given: Any) -> list[Tensor]:
    if isinstance(given, list | tuple):
        return [one for part in given for one in _flat(part)]
    return [given] if isinstance(given, Tensor) else []


def _cells(site: Site) -> list[Site]:
    """Return the layer, or the cells of RNN from the first to the last."""
    if site.layer.kind != "RNN":
        return [site]
    parts = [site.layer.parts[f"cell{i}"] for i in range(len(site.layer.parts))]
    return [site.inner(part, []) for part in parts]


def _both(site: Site) -> list[Net]:
    """Return what the two layers of Bidirectional are called with."""
    x, states = _arguments(site)
    mask = site.kwargs.get("mask")
    if mask is None and (not states or site.builder.version == 2):
        mask = x.mask
    half = len(states) // 2
    nets = []
    for part, own in (("forward", states[:half]), ("backward", states[half:])):
        layer = site.layer.parts[part]
        inner = site.inner(layer, [x.masked(mask)], **({"initial_state": own} if own else {}))
        inner.kwargs |= {"mask": mask} if mask is not None else {}
        net = _net(inner)
        net.zeroed = bool(layer.config["return_sequences"])
        nets.append(net)
    return nets


# -- nodes ----------------------------------------------------------------------------------------


def _run(nets: Sequence[Net]) -> Results:
    """Write the nodes of one net, a node for each cell, or that of two of opposite directions."""
    first = nets[0]
    y, finals = first.x, []
    for number, cell in enumerate(first.cells):
        cells = [cell, *(net.cells[0] for net in nets[1:])]
        y, own = _written(nets, cells, y, _first_states(nets, number))
        finals.append(own)
    if first.mask is not None and first.zeroed:
        site = first.site
        y = site.where(site.unsqueeze(first.mask, -1), y, site.number(0))
    return Results(y, finals)


def _written(
    nets: Sequence[Net], cells: Sequence[Site], x: Tensor, states: list[Tensor | None]
) -> tuple[Tensor, list[Tensor]]:
    """Write one node: the cells of one layer in one direction or two. Return y, and h_n and c_n."""
    first, site = nets[0], cells[0]
    options = _options(site)
    mode, inputs, hidden = (options[name] for name in ("mode", "input_size", "hidden_size"))
    if x.shape[2] != inputs:
        raise site.error(f"takes {inputs} features, and is called with {text(x.shape)}")
    names: list[str] = []
    weights: list[Tensor] = []
    for number, cell in enumerate(cells):
        for name, array in _arrays(mode, cell.layer.weights).items():
            names.append(f"0.{'reverse.' * number}{name}")
            key = cell.layer.weights["recurrent_kernel"]
            weights.append(site.builder.weight(key, f"{cell.path}/{name}", array))
    directions = len(cells)
    state = [directions, x.shape[0], hidden]
    y = Tensor(site.builder.name(f"{site.path}/y"), "float32", (*x.shape[:2], directions * hidden))
    finals = [
        Tensor(site.builder.name(f"{site.path}/{letter}_n"), "float32", tuple(state))
        for letter in ("hc" if mode == "lstm" else "h")
    ]
    direction = "reverse" if first.reverse else "forward"
    attributes = {
        **options,
        "batch_first": 1,
        "weights": names,
        "direction": "bidirectional" if directions > 1 else direction,
    }
    reads = [x, *states, None, *weights, first.mask]
    writes = [y.name, *(final.name for final in finals), ""][:3]
    site.builder.node("treadle.Recurrent", reads, writes, attributes, first.site.path)
    return y, finals


def _arrays(mode: str, weights: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
    """Return the arrays of one layer and direction by the node's names of them."""
    given = weights["kernel"], weights["recurrent_kernel"], weights.get("bias")
    arrays = dict(zip(NAMES, turned(mode, given, np.concatenate), strict=True))
    if arrays["bias_ih"] is not None and arrays["bias_hh"] is None:
        arrays["bias_hh"] = np.zeros_like(arrays["bias_ih"])
    return {name: array for name, array in arrays.items() if array is not None}


def _options(cell: Site) -> dict[str, Any]:
    """Return the attributes of a node of one cell."""
    mode, layer = MODES[cell.layer.kind], cell.layer
    kernel, recurrent = cell.weight("kernel"), cell.weight("recurrent_kernel")
    options = {
        "mode": mode,
        "input_size": int(kernel.shape[0]),
        "hidden_size": int(recurrent.shape[0]),
        "bias": int(bool(cell.option("use_bias"))),
        "activation": of_cell(cell, "activation"),
    }
    if mode != "rnn":
        options["recurrent_activation"] = of_cell(cell, "recurrent_activation")
    if mode == "gru":
        options["reset_after"] = int(bool(layer.config["reset_after"]))
    return options


def _first_states(nets: Sequence[Net], number: int) -> list[Tensor | None]:
    """Return h0 and c0 [R, B, H] of one cell, None where there are none."""
    found: list[Tensor | None] = []
    for place in range(2):
        parts = [net.of_cell(number)[place : place + 1] for net in nets]
        rows = [nets[0].site.unsqueeze(state, 0) for part in parts for state in part]
        found.append(nets[0].site.concat(rows, 0) if rows else None)
    return found


def _output(net: Net, results: Results, number: int, directions: int) -> Tensor:
    """Return what Keras' layer returns: all outputs in its order, or the last one.

    Of two directions this is number ``number``, and all its outputs are in the order of time.
    """
    site, config = net.site, net.site.layer.config
    sequences = config["return_sequences"]
    if not sequences and not (net.mask is not None and (net.zeroed or net.states)):
        return site.pick(results.finals[-1][0], 0, number)
    y = results.y
    if directions > 1:
        hidden = int(results.finals[0][0].shape[2])
        y = site.slice(y, 2, number * hidden, (number + 1) * hidden)
    if not sequences:  # a row whose steps are all skipped has the output 0 beside its first state
        return site.pick(y, 1, 0 if net.reverse else -1)
    if net.reverse and directions == 1:
        y = site.flip(y, 1)
    return y.masked(site.kwargs.get("mask") or net.x.mask)


def _states(net: Net, results: Results, number: int) -> list[Tensor]:
    """Return the last states: h, and c of an LSTM, of each cell."""
    return [net.site.pick(final, 0, number) for finals in results.finals for final in finals]


# -- both directions ------------------------------------------------------------------------------


def _together(nets: list[Net]) -> bool:
    """Return whether two nets can be one node: they have the same options, and go both ways."""
    forward, backward = nets
    same = [_options(net.cells[0]) for net in nets]
    return (
        same[0] == same[1]
        and len(forward.cells) == len(backward.cells) == 1
        and not forward.reverse
        and backward.reverse
        and bool(forward.states) == bool(backward.states)
    )


KINDS: dict[str, Callable[[Site], Tensor | list[Tensor]]] = {
    **dict.fromkeys(("LSTM", "GRU", "SimpleRNN", "RNN"), recurrent),
    "Bidirectional": bidirectional,
}

"""ONNX Runtime runs the RNN, LSTM and GRU operators, one node per layer, weights as initialisers.

Input, states and outputs are bound to fixed memory (IOBinding), which beats `session.run` by 12 us;
a carried state goes back and forth between two bindings. The variant with spinning threads exists
only for more than one thread: with one there is no pool. It stops spinning after each run, or the
pool would take the processor from the peer that is timed next.

A pool's streams are the rows of one batch, as if they never came or went, or have a run each.

int8 is quantize_dynamic, which knows the LSTM (DynamicQuantizeLSTM) and no GRU; variants are its
scales, for a matrix or for each of its channels. Weights have seven bits where the CPU has no VNNI,
whose forerunner saturates. There is no bfloat16 on the CPU.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from ....core.dtypes import Array
from ....core.kind import Prepared, Unsupported
from ....core.models.recurrent.case import NetCase
from ....core.models.recurrent.data import NetInputs, Outputs, Weights
from ....core.peers.onnxruntime import check_dtype, quantized, settings

# Rows of PyTorch's gates in ONNX's order: i, o, f, c and z, r, h.
ORDER = {"rnn": (0,), "lstm": (0, 3, 1, 2), "gru": (1, 0, 2)}
PER_CHANNEL = ", per channel"
PER_STREAM = "a run per stream"


def variants(case: NetCase, threads: int) -> tuple[str, ...]:
    """Return the variants: with and without spinning if there is a pool, and two quantisations."""
    found = ("operator",) if threads == 1 else ("spinning", "blocking")
    if case.group == "pool":  # a run for each of a thousand takes long to prepare
        return (*found, PER_STREAM) if case.B <= 64 else found
    if case.dtype == "int8":
        return tuple(f"{name}{ending}" for name in found for ending in ("", PER_CHANNEL))
    return found


def reorder(case: NetCase, rows: Array) -> Array:
    """Bring rows [G*H, ...] from PyTorch's order of the gates to ONNX's."""
    gates = rows.reshape(case.gates, case.H, *rows.shape[1:])
    return gates[list(ORDER[case.cell])].reshape(rows.shape)


def model(case: NetCase, weights: list[Weights]) -> bytes:
    """Make a graph: inputs x, h<layer>, c<layer>; outputs new_h, new_c and, unless carried, y."""
    if case.P:
        raise Unsupported("the ONNX LSTM has no projection")
    lstm = case.cell == "lstm"
    nodes, constants = [], []
    inputs = [_value("x", [case.T, case.B, case.I])]
    outputs = []

    def constant(name: str, value: Array) -> str:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    attributes: dict[str, Any] = {"hidden_size": case.H}
    attributes["direction"] = "bidirectional" if case.D == 2 else "forward"
    if case.cell == "gru":
        attributes["linear_before_reset"] = 1
    if case.cell == "rnn":
        attributes["activations"] = [case.nonlinearity.capitalize()] * case.D
    lengths = constant("lengths", np.array(case.lengths, np.int32)) if case.lengths else ""
    previous = "x"
    for layer in range(case.L):
        ws = weights[layer * case.D : (layer + 1) * case.D]
        both = [np.concatenate([reorder(case, w.b_ih), reorder(case, w.b_hh)]) for w in ws]
        state = [f"h{layer}", f"c{layer}"] if lstm else [f"h{layer}"]
        last = layer == case.L - 1
        y = "" if case.carried and last else "y" if last else f"y{layer}"
        nodes.append(
            helper.make_node(
                case.cell.upper(),
                [
                    previous,
                    constant(f"W{layer}", np.stack([reorder(case, w.ih) for w in ws])),
                    constant(f"R{layer}", np.stack([reorder(case, w.hh) for w in ws])),
                    constant(f"B{layer}", np.stack(both)),
                    lengths,
                    *state,
                ],
                [y, *(f"new_{name}" for name in state)],
                **attributes,
            )
        )
        for name in state:
            inputs.append(_value(name, [case.D, case.B, case.H]))
            outputs.append(_value(f"new_{name}", [case.D, case.B, case.H]))
        if not last:
            # [T, D, B, H] to [T, B, D*H]; with one direction or one row nothing has to move.
            if case.D == 2 and case.B > 1:
                nodes.append(helper.make_node("Transpose", [y], [f"t{layer}"], perm=[0, 2, 1, 3]))
                y = f"t{layer}"
            shape = constant(f"s{layer}", np.array([case.T, case.B, case.D * case.H]))
            nodes.append(helper.make_node("Reshape", [y, shape], [f"x{layer + 1}"]))
            previous = f"x{layer + 1}"
    if not case.carried:
        outputs.insert(0, _value("y", [case.T, case.D, case.B, case.H]))
    graph = helper.make_graph(nodes, "case", inputs, outputs, constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    return bytes(made.SerializeToString())


def _value(name: str, shape: list[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def release() -> None:
    """Do nothing: nothing outlives what `prepare` returned."""


def prepare(case: NetCase, inputs: NetInputs, threads: int, variant: str) -> Prepared[Outputs]:
    """Make a session with bound memory."""
    weights, x = inputs
    if variant == PER_STREAM:
        return _per_stream(case, inputs, threads)
    check_dtype(case)
    made = model(case, weights)
    if case.dtype == "int8":
        if case.cell != "lstm":
            raise Unsupported(f"ONNX Runtime quantises no {case.cell.upper()}")
        made = quantized(made, variant.endswith(PER_CHANNEL), ("LSTM",))
    options = settings(threads, spinning=variant.startswith("spinning"))
    session = onnxruntime.InferenceSession(made, options, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs() if entry.name != "x"]

    def zeros() -> dict[str, Array]:
        return {name: np.zeros((case.D, case.B, case.H), np.float32) for name in names}

    y = np.zeros((case.T, case.D, case.B, case.H), np.float32)
    old, new = zeros(), zeros()
    bound = [_bind(session, x, old, new, None if case.carried else y)]
    if case.carried:
        bound.append(_bind(session, x, new, old, None))
        turn = itertools.cycle(bound).__next__
        top = f"h{case.L - 1}"
        results = itertools.cycle([new[top], old[top]]).__next__
        run = session.run_with_iobinding

        def carried(keep: Any = (x, old, new)) -> Array:
            # A binding does not keep its NumPy arrays alive; the default argument does.
            run(turn())
            return results()

        return Prepared(carried, lambda h: Outputs(h.copy()))

    def outputs(_: Any, keep: Any = (x, old)) -> Outputs:
        h, c = (
            [value for name, value in sorted(new.items()) if name[0] == letter] for letter in "hc"
        )
        return Outputs(
            y.transpose(0, 2, 1, 3).reshape(case.T, case.B, -1),
            np.concatenate(h),
            np.concatenate(c) if c else None,
        )

    return Prepared(lambda: session.run_with_iobinding(bound[0]), outputs)


def _per_stream(case: NetCase, inputs: NetInputs, threads: int) -> Prepared[Outputs]:
    """Make a session that runs once for each row, which has bindings of its own."""
    weights, x = inputs
    one = dataclasses.replace(case, B=1)
    rows = [
        prepare(one, (weights, np.ascontiguousarray(x[:, row : row + 1])), threads, "blocking")
        for row in range(case.B)
    ]
    runs = [row.run for row in rows]
    return Prepared(
        lambda: [run() for run in runs],
        lambda found: Outputs(np.concatenate([np.asarray(h) for h in found], axis=1)),
    )


def _bind(
    session: Any, x: Array, old: dict[str, Array], new: dict[str, Array], y: Array | None
) -> Any:
    share = onnxruntime.OrtValue.ortvalue_from_numpy
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", share(x))
    for name, value in old.items():
        binding.bind_ortvalue_input(name, share(value))
        binding.bind_ortvalue_output(f"new_{name}", share(new[name]))
    if y is not None:
        binding.bind_ortvalue_output("y", share(y))
    return binding

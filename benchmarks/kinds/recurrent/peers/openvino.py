"""OpenVINO runs LSTMSequence, GRUSequence and RNNSequence on batch-major input.

Built from the operators and not from ONNX, so that no transposition is added. Latency hint, one
stream, and the precision asked for, since the default is bfloat16 on a processor that has it; int8
would need a model calibrated with its compression framework (nncf). A carried
state goes back and forth between two infer requests whose tensors are each other's (as fast as a
stateful model, 20 us less than copying). The other hints and pinning options changed nothing.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import openvino
from openvino import opset13 as operators

from ....core.dtypes import Array
from ....core.kind import Prepared, Unsupported
from ....core.models.recurrent.case import NetCase
from ....core.models.recurrent.data import NetInputs, Outputs, Weights
from ....core.peers.openvino import PRECISION, settings

# Rows of PyTorch's gates in OpenVINO's order: f, i, c, o and z, r, h.
ORDER = {"rnn": (0,), "lstm": (1, 0, 2, 3), "gru": (1, 0, 2)}


def variants(case: NetCase, threads: int) -> tuple[str, ...]:
    """Return the only way."""
    return ("sequence",)


def _gates(case: NetCase, rows: Array) -> Array:
    gates = rows.reshape(case.gates, case.H, *rows.shape[1:])
    return gates[list(ORDER[case.cell])]


def _biases(case: NetCase, w: Weights) -> Array:
    """[G*H], summed; a GRU keeps the candidate's two apart, z, r, h from x, h from h."""
    ours, theirs = _gates(case, w.b_ih), _gates(case, w.b_hh)
    if case.cell == "gru":
        return np.concatenate([ours[:2] + theirs[:2], ours[2:], theirs[2:]]).reshape(-1)
    return (ours + theirs).reshape(-1)


def model(case: NetCase, weights: list[Weights]) -> openvino.Model:
    """Inputs x [B, T, I], h and c [B, D, H] by layer; outputs y [B, D, T, H], then the states."""
    if case.P:
        raise Unsupported("OpenVINO's LSTMSequence has no projection")
    if case.dtype not in PRECISION:
        raise Unsupported("OpenVINO's sequences need a calibrated model in int8")
    x = operators.parameter([case.B, case.T, case.I], np.float32)
    parameters, states = [x], []
    direction = "BIDIRECTIONAL" if case.D == 2 else "FORWARD"
    lengths = np.array(case.lengths or [case.T] * case.B, np.int64)
    value: Any = x
    y: Any = None
    for layer in range(case.L):
        ws = weights[layer * case.D : (layer + 1) * case.D]
        ih = np.stack([_gates(case, w.ih).reshape(w.ih.shape) for w in ws])
        hh = np.stack([_gates(case, w.hh).reshape(w.hh.shape) for w in ws])
        bias = np.stack([_biases(case, w) for w in ws])
        count = 2 if case.cell == "lstm" else 1
        start = [operators.parameter([case.B, case.D, case.H], np.float32) for _ in range(count)]
        parameters += start
        common = (value, *start, lengths, ih, hh, bias, case.H, direction)
        if case.cell == "lstm":
            node = operators.lstm_sequence(*common)
        elif case.cell == "gru":
            node = operators.gru_sequence(*common, linear_before_reset=True)
        else:
            node = operators.rnn_sequence(*common, activations=[case.nonlinearity])
        y = node.output(0)
        states += [node.output(1 + index) for index in range(count)]
        value = y
        if case.D == 2:  # [B, D, T, H] to [B, T, D*H]
            value = operators.transpose(y, np.array([0, 2, 1, 3]))
        shape = np.array([case.B, case.T, case.D * case.H])
        value = operators.reshape(value, shape, special_zero=False)
    return openvino.Model(states if case.carried else [y, *states], parameters, "case")


def release() -> None:
    """Do nothing: nothing outlives what `prepare` returned."""


def prepare(case: NetCase, inputs: NetInputs, threads: int, variant: str) -> Prepared[Outputs]:
    """Make infer requests on fixed tensors."""
    weights, x = inputs
    made = model(case, weights)
    precision = PRECISION[case.dtype]
    compiled = openvino.Core().compile_model(made, "CPU", settings(threads, precision))
    batch_major = np.ascontiguousarray(x.transpose(1, 0, 2))
    shape = (case.B, case.D, case.H)
    per_layer = 2 if case.cell == "lstm" else 1
    old, new = ([np.zeros(shape, np.float32) for _ in range(case.L * per_layer)] for _ in range(2))

    def request(before: list[Array], after: list[Array], y: Array | None) -> Any:
        made = compiled.create_infer_request()
        made.set_input_tensor(0, openvino.Tensor(batch_major, shared_memory=True))
        for index, value in enumerate(before):
            made.set_input_tensor(1 + index, openvino.Tensor(value, shared_memory=True))
        results = after if y is None else [y, *after]
        for index, value in enumerate(results):
            made.set_output_tensor(index, openvino.Tensor(value, shared_memory=True))
        return made

    if case.carried:
        turn = itertools.cycle([request(old, new, None), request(new, old, None)]).__next__
        results = itertools.cycle([new[-per_layer], old[-per_layer]]).__next__

        def carried(keep: Any = (batch_major, old, new)) -> Array:
            # A shared Tensor does not keep its NumPy array alive; the default argument does.
            turn().infer(share_outputs=True)
            return results()

        return Prepared(carried, lambda h: Outputs(h.transpose(1, 0, 2).copy()))

    y = np.zeros((case.B, case.D, case.T, case.H), np.float32)
    only = request(old, new, y)

    def outputs(_: Any, keep: Any = (batch_major, old)) -> Outputs:
        h, c = new[::per_layer], new[1::per_layer] if per_layer == 2 else []
        return Outputs(
            y.transpose(2, 0, 1, 3).reshape(case.T, case.B, -1),
            np.concatenate([part.transpose(1, 0, 2) for part in h]),
            np.concatenate([part.transpose(1, 0, 2) for part in c]) if c else None,
        )

    return Prepared(lambda: only.infer(share_outputs=True), outputs)

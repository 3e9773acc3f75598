"""This module turns the operators of older opsets into their newest form.

A rule takes a node of an opset below the one that changed the operator
(https://onnx.ai/onnx/operators, "Differences with previous version") and changes it in place, or
adds other nodes in its place and returns True. Rules of an operator stand in the order in which
its versions came.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from treadle.onnx.tensors import DTYPES, dtype_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from treadle.onnx.building import Call

    Rule: TypeAlias = Callable[[Call], bool | None]

# No operator of treadle computes in the dtypes that these attributes choose, or reads another one.
_SAY_NOTHING = {
    "Cast": ("saturate", "round_mode"),
    "CastLike": ("saturate", "round_mode"),
    "QuantizeLinear": ("saturate", "precision"),
    "LayerNormalization": ("stash_type",),
    "RMSNormalization": ("stash_type",),
    "GroupNormalization": ("stash_type",),
    "Range": ("stash_type",),
    "BatchNormalization": ("momentum",),
    "Dropout": ("seed", "ratio"),
}
_DTYPE_ATTRIBUTES = ("to", "dtype", "output_dtype", "output_datatype")
_FLOAT32 = 1
# Attributes that hold int64 arrays or float scalars and became inputs.
_DTYPES_OF_INPUTS = {"min": "f4", "max": "f4", "value": "f4", "scales": "f4"}


def upgrade(call: Call) -> bool:
    """Bring a node into its newest form; True if other nodes have taken its place."""
    for name in _SAY_NOTHING.get(call.op, ()):
        call.attributes.pop(name, None)
    for before, rule in RULES.get(call.op, ()):
        if call.version < before and rule(call):
            return True
    for name in _DTYPE_ATTRIBUTES:
        if name in call.attributes:
            _check_dtype(call, name)
    return False


def _check_dtype(call: Call, name: str) -> None:
    """Refuse a dtype that treadle has not; float16 and bfloat16 are computed in float32."""
    code = call.attributes[name]
    if not isinstance(code, int) or (code == 0 and name == "output_dtype"):
        return
    if code not in DTYPES:
        raise call.error(
            f"makes the dtype {dtype_name(code)}, expected one of {', '.join(DTYPES.values())}"
        )
    if DTYPES[code] in ("float16", "bfloat16"):
        call.attributes[name] = _FLOAT32


def _to_input(position: int, name: str) -> Rule:
    """Return the rule for an attribute that became the input at a position."""

    def rule(call: Call) -> None:
        if name not in call.attributes:
            return
        value = call.attributes.pop(name)
        dtype = _DTYPES_OF_INPUTS.get(name, "i8")
        number = isinstance(value, int | float)
        listed = isinstance(value, list) and all(isinstance(v, int | float) for v in value)
        if not (number or listed) or (dtype == "i8" and _has_float(value)):
            raise call.error(f"has an attribute {name} of a wrong kind")
        call.set_input(position, call.constant(np.array(value, dtype), name))

    return rule


def _has_float(value: object) -> bool:
    return any(isinstance(v, float) for v in (value if isinstance(value, list) else [value]))


def _count_outputs(call: Call) -> None:
    """Before opset 18, Split without sizes made as many equal parts as it had outputs."""
    if not call.has(1) and "num_outputs" not in call.attributes:
        call.attributes["num_outputs"] = len(call.outputs)


def _topk(call: Call) -> None:
    call.attributes["k"] = [call.take("k", int, -1)]  # -1 is refused when the node runs


def _old_resize(call: Call) -> None:
    """Upsample, and Resize of opset 10, have one way to place samples, and scales only."""
    call.op = "Resize"
    if len(call.inputs) != 2:
        raise call.error(f"has {len(call.inputs)} inputs, expected 2")
    call.inputs = [call.inputs[0], "", call.inputs[1]]
    call.attributes["coordinate_transformation_mode"] = "asymmetric"
    call.attributes["nearest_mode"] = "floor"


def _upsample(call: Call) -> None:
    call.attributes.setdefault("mode", "nearest")
    _old_resize(call)


def _empty_inputs(call: Call) -> None:
    """Resize may have constants without elements where an input is absent."""
    for i in range(1, len(call.inputs)):
        constant = call.scope.constant(call.inputs[i])
        if constant is not None and constant.size == 0:
            call.inputs[i] = ""


def _flattened(call: Call) -> bool:
    """Before opset 13, Softmax and its kin took all axes from one on as a single axis."""
    axis = call.take("axis", int, 1)
    if len(call.inputs) != 1 or len(call.outputs) != 1 or call.attributes:
        raise call.error("has not one input, one output and only the attribute axis")
    if axis == -1:
        call.emit(call.op, call.inputs, call.outputs, {"axis": -1})
        return True
    flat = call.compute("Flatten", call.inputs, {"axis": axis})
    result = call.compute(call.op, [flat], {"axis": -1})
    shape = call.compute("Shape", call.inputs)
    call.emit("Reshape", [result, shape], call.outputs)
    return True


def _batch_norm(call: Call) -> None:
    """Running a model needs neither the statistics of a batch nor their outputs."""
    if call.take("spatial", int, 1) != 1:
        raise call.error("has spatial = 0, expected 1")
    if call.take("training_mode", int, 0) != 0:
        raise call.error("is in training mode, expected a model that was exported to be run")
    call.outputs = call.outputs[:1]


def _dropout(call: Call) -> bool:
    """Dropout of a model that runs passes its input on."""
    if not (1 <= len(call.inputs) <= 3 and 1 <= len(call.outputs) <= 2 and call.inputs[0]):
        raise call.error(f"has {len(call.inputs)} inputs and {len(call.outputs)} outputs")
    if call.has(2):
        training = call.scope.constant(call.inputs[2])
        if training is None or training.any():
            raise call.error("is in training mode, expected a model that was exported to be run")
    call.emit("Identity", call.inputs[:1], call.outputs[:1])
    if len(call.outputs) > 1 and call.outputs[1]:
        shape = call.compute("Shape", call.inputs[:1])
        call.emit("ConstantOfShape", [shape], call.outputs[1:], {"value": np.ones(1, np.bool_)})
    return True


def _scatter(call: Call) -> None:
    call.op = "ScatterElements"


def _group_norm(call: Call) -> bool:
    """Until opset 20, a scale and a bias belonged to a group, and not to a channel: that is an
    instance norm of the groups."""
    groups = call.take("num_groups", int, 0)
    epsilon = {"epsilon": call.take("epsilon", float, 1e-5)}
    if groups < 1 or len(call.inputs) != 3 or len(call.outputs) != 1 or call.attributes:
        raise call.error("has no num_groups >= 1, or not 3 inputs and one output")
    sizes = call.constant(np.array([0, groups, -1], np.int64), "groups")
    x = call.compute("Reshape", [call.inputs[0], sizes])
    result = call.compute("InstanceNormalization", [x, *call.inputs[1:]], epsilon)
    shape = call.compute("Shape", call.inputs[:1])
    call.emit("Reshape", [result, shape], call.outputs)
    return True


def _batched_scan(call: Call) -> None:
    raise call.error("is a Scan of opset 8, expected one of opset 9 or later")


_NEVER = 2**31  # a rule for all versions
_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
RULES: dict[str, tuple[tuple[int, Rule], ...]] = {
    "Squeeze": ((13, _to_input(1, "axes")),),
    "Unsqueeze": ((13, _to_input(1, "axes")),),
    "ReduceSum": ((13, _to_input(1, "axes")),),
    **{f"Reduce{name}": ((18, _to_input(1, "axes")),) for name in _REDUCTIONS},
    "Clip": ((11, _to_input(1, "min")), (11, _to_input(2, "max"))),
    "Pad": ((11, _to_input(1, "pads")), (11, _to_input(2, "value"))),
    "Slice": tuple((10, _to_input(i + 1, n)) for i, n in enumerate(("starts", "ends", "axes"))),
    "Split": ((13, _to_input(1, "split")), (18, _count_outputs)),
    "TopK": ((10, _topk), (10, _to_input(1, "k"))),
    "Upsample": ((9, _to_input(1, "scales")), (_NEVER, _upsample)),
    "Resize": ((11, _old_resize), (_NEVER, _empty_inputs)),
    "Softmax": ((13, _flattened),),
    "LogSoftmax": ((13, _flattened),),
    "Hardmax": ((13, _flattened),),
    "BatchNormalization": ((_NEVER, _batch_norm),),
    "Dropout": ((_NEVER, _dropout),),
    "Scatter": ((_NEVER, _scatter),),
    "GroupNormalization": ((21, _group_norm),),
    "Scan": ((9, _batched_scan),),
}

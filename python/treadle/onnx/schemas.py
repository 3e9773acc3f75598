"""This module lists ONNX's operators that a graph may have, in their newest form.

A line has the operator, how many inputs and outputs it may have, and its attributes with the kinds
of their values (`reader.KINDS`); ``!`` marks one that must be there. Of an operator that is listed,
every other attribute is refused: what is not known is never ignored. The listed operators are those
of https://onnx.ai/onnx/operators up to opset 28, without what only training or float8 need.
"""

from __future__ import annotations

from typing import NamedTuple

from treadle._storage.json import short

OLDEST_OPSET, NEWEST_OPSET = 7, 28
_MANY = 2**16
_INDENT = " " * 31

_TABLE = """
Abs                     1   1
Acos                    1   1
Acosh                   1   1
Add                     2   1
And                     2   1
ArgMax                  1   1  axis:int keepdims:int select_last_index:int
ArgMin                  1   1  axis:int keepdims:int select_last_index:int
Asin                    1   1
Asinh                   1   1
Atan                    1   1
Atanh                   1   1
Attention             3-6 1-4  is_causal:int kv_num_heads:int q_num_heads:int
                               qk_matmul_output_mode:int scale:float softcap:float
                               softmax_precision:int
AveragePool             1   1  auto_pad:str ceil_mode:int count_include_pad:int dilations:ints
                               kernel_shape:ints! pads:ints strides:ints
BatchNormalization      5   1  epsilon:float
BitShift                2   1  direction:str!
BitwiseAnd              2   1
BitwiseNot              1   1
BitwiseOr               2   1
BitwiseXor              2   1
Cast                    1   1  to:int!
CastLike                2   1
Ceil                    1   1
Celu                    1   1  alpha:float
Clip                  1-3   1
Compress                2   1  axis:int
Concat                 1+   1  axis:int!
ConstantOfShape         1   1  value:tensor
Conv                  2-3   1  auto_pad:str dilations:ints group:int kernel_shape:ints pads:ints
                               strides:ints
ConvInteger           2-4   1  auto_pad:str dilations:ints group:int kernel_shape:ints pads:ints
                               strides:ints
ConvTranspose         2-3   1  auto_pad:str dilations:ints group:int kernel_shape:ints
                               output_padding:ints output_shape:ints pads:ints strides:ints
Cos                     1   1
Cosh                    1   1
CumSum                  2   1  exclusive:int reverse:int
DepthToSpace            1   1  blocksize:int! mode:str
DequantizeLinear      2-3   1  axis:int block_size:int output_dtype:int
Div                     2   1
DynamicQuantizeLinear   1   3
Einsum                 1+   1  equation:str!
Elu                     1   1  alpha:float
Equal                   2   1
Erf                     1   1
Exp                     1   1
Expand                  2   1
EyeLike                 1   1  dtype:int k:int
Flatten                 1   1  axis:int
Floor                   1   1
GRU                   3-6 0-2  activation_alpha:floats activation_beta:floats activations:strs
                               clip:float direction:str hidden_size:int layout:int
                               linear_before_reset:int
Gather                  2   1  axis:int
GatherElements          2   1  axis:int
GatherND                2   1  batch_dims:int
Gelu                    1   1  approximate:str
Gemm                  2-3   1  alpha:float beta:float transA:int transB:int
GlobalAveragePool       1   1
GlobalMaxPool           1   1
Greater                 2   1
GreaterOrEqual          2   1
GroupNormalization      3   1  epsilon:float num_groups:int! stash_type:int
HardSigmoid             1   1  alpha:float beta:float
HardSwish               1   1
Hardmax                 1   1  axis:int
Identity                1   1
If                      1  1+  else_branch:graph! then_branch:graph!
InstanceNormalization   3   1  epsilon:float
IsInf                   1   1  detect_negative:int detect_positive:int
IsNaN                   1   1
LSTM                  3-8 0-3  activation_alpha:floats activation_beta:floats activations:strs
                               clip:float direction:str hidden_size:int input_forget:int layout:int
LayerNormalization    2-3 1-3  axis:int epsilon:float stash_type:int
LeakyRelu               1   1  alpha:float
Less                    2   1
LessOrEqual             2   1
Log                     1   1
LogSoftmax              1   1  axis:int
Loop                   2+  1+  body:graph!
LpNormalization         1   1  axis:int p:int
MatMul                  2   1
MatMulInteger         2-4   1
Max                    1+   1
MaxPool                 1 1-2  auto_pad:str ceil_mode:int dilations:ints kernel_shape:ints!
                               pads:ints storage_order:int strides:ints
Mean                   1+   1
Min                    1+   1
Mish                    1   1
Mod                     2   1  fmod:int
Mul                     2   1
Neg                     1   1
NonZero                 1   1
Not                     1   1
OneHot                  3   1  axis:int
Or                      2   1
PRelu                   2   1
Pad                   2-4   1  mode:str
Pow                     2   1
QLinearConv           8-9   1  auto_pad:str dilations:ints group:int kernel_shape:ints pads:ints
                               strides:ints
QLinearMatMul           8   1
QuantizeLinear        2-3   1  axis:int block_size:int output_dtype:int precision:int saturate:int
RMSNormalization        2   1  axis:int epsilon:float stash_type:int
RNN                   3-6 0-2  activation_alpha:floats activation_beta:floats activations:strs
                               clip:float direction:str hidden_size:int layout:int
Range                   3   1  stash_type:int
Reciprocal              1   1
ReduceL1              1-2   1  keepdims:int noop_with_empty_axes:int
ReduceL2              1-2   1  keepdims:int noop_with_empty_axes:int
ReduceLogSum          1-2   1  keepdims:int noop_with_empty_axes:int
ReduceLogSumExp       1-2   1  keepdims:int noop_with_empty_axes:int
ReduceMax             1-2   1  keepdims:int noop_with_empty_axes:int
ReduceMean            1-2   1  keepdims:int noop_with_empty_axes:int
ReduceMin             1-2   1  keepdims:int noop_with_empty_axes:int
ReduceProd            1-2   1  keepdims:int noop_with_empty_axes:int
ReduceSum             1-2   1  keepdims:int noop_with_empty_axes:int
ReduceSumSquare       1-2   1  keepdims:int noop_with_empty_axes:int
Relu                    1   1
Reshape                 2   1  allowzero:int
Resize                1-4   1  antialias:int axes:ints coordinate_transformation_mode:str
                               cubic_coeff_a:float exclude_outside:int extrapolation_value:float
                               keep_aspect_ratio_policy:str mode:str nearest_mode:str
ReverseSequence         2   1  batch_axis:int time_axis:int
RotaryEmbedding       3-4   1  interleaved:int num_heads:int rotary_embedding_dim:int
Round                   1   1
STFT                  2-4   1  onesided:int
Scan                   1+  1+  body:graph! num_scan_inputs:int! scan_input_axes:ints
                               scan_input_directions:ints scan_output_axes:ints
                               scan_output_directions:ints
ScatterElements         3   1  axis:int reduction:str
ScatterND               3   1  reduction:str
Selu                    1   1  alpha:float gamma:float
Shape                   1   1  end:int start:int
Shrink                  1   1  bias:float lambd:float
Sigmoid                 1   1
Sign                    1   1
Sin                     1   1
Sinh                    1   1
Size                    1   1
Slice                 3-5   1
Softmax                 1   1  axis:int
Softplus                1   1
Softsign                1   1
SpaceToDepth            1   1  blocksize:int! mode:str
Split                 1-2  1+  axis:int num_outputs:int
Sqrt                    1   1
Squeeze               1-2   1
Sub                     2   1
Sum                    1+   1
Swish                   1   1  alpha:float
Tan                     1   1
Tanh                    1   1
ThresholdedRelu         1   1  alpha:float
Tile                    2   1
TopK                    2   2  axis:int largest:int sorted:int
Transpose               1   1  perm:ints
Trilu                 1-2   1  upper:int
Unique                  1 1-4  axis:int sorted:int
Unsqueeze               2   1
Where                   3   1
Xor                     2   1
"""


class Schema(NamedTuple):
    inputs: tuple[int, int]
    """The least and the largest number of inputs."""
    outputs: tuple[int, int]
    attributes: dict[str, str]
    """The kind of every attribute."""
    required: tuple[str, ...]


def _limits(text: str) -> tuple[int, int]:
    if text.endswith("+"):
        return int(text[:-1]), _MANY
    least, _, most = text.partition("-")
    return int(least), int(most or least)


def _parsed(table: str) -> dict[str, Schema]:
    schemas: dict[str, Schema] = {}
    for line in table.strip().replace("\n" + _INDENT, " ").splitlines():
        op, inputs, outputs, *attributes = line.split()
        kinds = dict(attribute.rstrip("!").split(":") for attribute in attributes)
        required = tuple(a.split(":")[0] for a in attributes if a.endswith("!"))
        schemas[op] = Schema(_limits(inputs), _limits(outputs), kinds, required)
    return schemas


SCHEMAS = _parsed(_TABLE)


def problem(op: str, inputs: int, outputs: int, kinds: dict[str, str]) -> str | None:
    """Say what is wrong with a node of a listed operator: its numbers of inputs and outputs, and
    its attributes as names with kinds; None if nothing is."""
    schema = SCHEMAS[op]
    for found, (least, most), what in (
        (inputs, schema.inputs, "inputs"),
        (outputs, schema.outputs, "outputs"),
    ):
        if not least <= found <= most:
            expected = f"{least}" if least == most else f"{least} to {most}"
            return f"has {found} {what}, expected {expected}"
    for name, kind in kinds.items():
        wanted = schema.attributes.get(name, "")
        if not wanted:
            known = ", ".join(schema.attributes) or "none"
            return f"has the attribute {short(name)}, expected one of: {known}"
        if kind != wanted:
            return f"has the attribute {name} of kind {kind}, expected {wanted}"
    missing = [name for name in schema.required if name not in kinds]
    return f"lacks the attribute {missing[0]}" if missing else None

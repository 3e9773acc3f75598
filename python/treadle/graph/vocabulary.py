"""This module lists the operators beside ONNX's that fusions and the layout make.

All other operators of a graph are ONNX's (https://onnx.ai/onnx/operators/) in their newest form,
that of opset 23. The operators of this list begin with ``treadle.``: they are what the engine runs
fastest. Files and modules never contain them; readers refuse them there, and make one of an
operator of ONNX Runtime's own.

Letters: B batch, C channels, D output channels, g groups, K and N sizes of a product, T time, I
input, H hidden, P state (the projection's size, or H), L layers, R directions (1 or 2); in
attention S queries, K keys, N heads, E the size of a head, F the size of a value. A trailing ``?``
marks an input that may be absent.

Every operator with an ``activation`` computes ``activation(product + bias + residual)``. Its
attributes ``activation``, ``alpha`` and ``beta`` are read as `treadle.layers.activation` reads a
tuple (name, alpha, beta).

=============================  ====================================================================
operator                       inputs -> outputs; attributes
=============================  ====================================================================
treadle.Linear                 x [.., K], weight [N, K], bias? [N], residual? [.., N] -> [.., N];
                               activation, alpha, beta. The weight and the bias are constants
treadle.Conv                   x [B, spatial.., C], weight [D, taps.., C / g], bias? [D],
                               residual? as the output -> [B, spatial.., D]; strides, dilations,
                               pads (all begins, then all ends), auto_pad, group, activation,
                               alpha, beta. The weight and the bias are constants
treadle.ConvTranspose          x [B, spatial.., C], weight [C, taps.., D / g], bias? [D]
                               -> [B, spatial.., D]; strides, dilations, pads, auto_pad,
                               output_padding, group, activation, alpha, beta. The weight and
                               the bias are constants
treadle.MaxPool                x [B, spatial.., C] -> the same order; ONNX's attributes of MaxPool
treadle.AveragePool            likewise
treadle.GlobalAveragePool      x [B, spatial.., C] -> [B, 1.., C]
treadle.GlobalMaxPool          likewise
treadle.Resize                 x [B, spatial.., C], roi?, scales?, sizes? -> the same order; ONNX's
                               attributes; scales and sizes are those of x's axes as they lie
treadle.InstanceNormalization  x [B, spatial.., C], scale [C], bias [C] -> as x; epsilon
treadle.HardSwish              x -> as x: x min(1, max(0, alpha x + beta)); alpha, beta
treadle.Silu                   x -> as x: x / (1 + exp(-x))
treadle.Magnitude              x [.., 2 n] -> [.., n]: sqrt(a a + b b) of the first n numbers a and
                               the last n numbers b of each row, which is an STFT's magnitude
treadle.Attention              q [B, S, N, E], k [B, K, N, E], v [B, K, N, F], mask?
                               -> [B, S, N, F]; scale, hidden_score, nan_to_zero, broadcast. The
                               mask broadcasts to [B, N, S, K]: bool (True takes part; other keys
                               have the score hidden_score, minus infinity unless it is given) or
                               float32 (added to the scores). A query whose scores are all minus
                               infinity gives zeros, and with nan_to_zero also one whose softmax
                               is NaN. With broadcast, the axes B, N and S repeat where they are 1,
                               as those of MatMul and Add do
treadle.Recurrent              x [T, B, I] ([B, T, I] if batch_first), h0? [L R, B, P],
                               c0? [L R, B, H], lengths? [B], then the weights, then mask? [B, T]
                               -> y [T, B, R P], h_n [L R, B, P], c_n [L R, B, H]; the attributes
                               are those of `treadle.layers.recurrent_spec.RecurrentSpec`
                               (activations as lists [name, alpha, beta]), batch_first,
                               broadcast (where x, h0 or c0 has B 1, it counts for all rows) and
                               weights: the name of each input from the fifth on, such as
                               "0.weight_ih" (layer 0, forward), "0.reverse.bias_hh", in
                               PyTorch's order of gates and shapes. An output behind a row's
                               length is 0. A step where the mask (bool) is false is skipped: the
                               states stay, and its output is that of the step before it, or 0
                               before the first step (h0 if ``continued``, where another call
                               computed the steps before). lengths and a mask exclude each other
treadle.DynamicQuantizeLSTM    the operator of this name of ONNX Runtime (com.microsoft):
                               x [T, B, I], W [R, I, 4 H], R [R, H, 4 H], bias?, lengths?, h0?,
                               c0?, peepholes? (must be absent), W_scale, W_zero?, R_scale,
                               R_zero? -> y [T, R, B, H], h_n, c_n [R, B, H]; direction,
                               hidden_size. Constants, but x, lengths and states
treadle.Require                x, condition (one bool) -> x; message. Where the condition is false,
                               the run ends with a ValueError that has the message
=============================  ====================================================================
"""

from __future__ import annotations

# The names of the operators, with the least and the largest number of inputs (None: any number)
# and the number of outputs.
OPERATORS: dict[str, tuple[int, int | None, int]] = {
    "treadle.Linear": (2, 4, 1),
    "treadle.Conv": (2, 4, 1),
    "treadle.ConvTranspose": (2, 3, 1),
    "treadle.MaxPool": (1, 1, 1),
    "treadle.AveragePool": (1, 1, 1),
    "treadle.GlobalAveragePool": (1, 1, 1),
    "treadle.GlobalMaxPool": (1, 1, 1),
    "treadle.Resize": (2, 4, 1),
    "treadle.InstanceNormalization": (3, 3, 1),
    "treadle.HardSwish": (1, 1, 1),
    "treadle.Silu": (1, 1, 1),
    "treadle.Magnitude": (1, 1, 1),
    "treadle.Attention": (3, 4, 1),
    "treadle.Recurrent": (6, None, 3),
    "treadle.DynamicQuantizeLSTM": (11, 12, 3),
    "treadle.Require": (2, 2, 1),
}

# ONNX's operators that only a fusion can run, and what it needs for that.
FUSED_ONLY = {
    "STFT": "a real signal of known rank, and a step, a window and a length that are constants",
}

# The numbers of ONNX's dtypes (onnx.proto, TensorProto.DataType), with the names of the dtypes that
# values then have: float16 and bfloat16 are computed in float32.
COMPUTED_DTYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float32",
    11: "float64",
    12: "uint32",
    13: "uint64",
    16: "float32",
}

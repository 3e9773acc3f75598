"""This module lists the layers of Keras that files may name, with the options that are read.

A layer is found in this table and nowhere else: no class, function or module is looked up by a name
that a file has. Options that change no result of a trained model (initializers, regularizers,
dropout, momentum) are left out, and those of which one value is supported are checked for it.
"""

from __future__ import annotations

from typing import TypeAlias

from treadle.keras.files.options import (
    Option,
    axis,
    choice,
    count,
    flag,
    integer,
    listed,
    not_negative,
    number,
    numbers,
    one_axis,
    only,
    optional,
    pairs,
    positive,
    shape,
    sizes,
    target_shape,
    text,
)

Options: TypeAlias = dict[str, Option]

FUNCTIONS = frozenset(
    {
        *("celu", "elu", "exponential", "gelu", "glu", "hard_shrink", "hard_sigmoid", "hard_silu"),
        *("hard_swish", "hard_tanh", "leaky_relu", "linear", "log_sigmoid", "log_softmax", "mish"),
        *("relu", "relu6", "selu", "sigmoid", "silu", "soft_shrink", "softmax", "softplus"),
        *("softsign", "sparse_plus", "sparse_sigmoid", "sparsemax", "squareplus", "swish", "tanh"),
        *("tanh_shrink", "threshold"),
    }
)  # Keras' activations, by name

# Options that may also be a layer: config.py reads them.
ACTIVATIONS = ("activation", "recurrent_activation")


def _activation(default: str) -> Option:
    return Option(optional(text), default)


_RATE = "treadle runs trained models only"
_OUTPUTS: Options = {
    "return_sequences": Option(flag, False),
    "return_state": Option(flag, False),
    "go_backwards": Option(flag, False),
    "stateful": Option(flag, False),
    "zero_output_for_mask": Option(flag, False),
    "time_major": Option(only(False, because="time comes second in Keras 3"), False),
}
_RNN_CELL: Options = {
    "units": Option(positive, required=True),
    "activation": _activation("tanh"),
    "use_bias": Option(flag, True),
}
_LSTM_CELL: Options = {**_RNN_CELL, "recurrent_activation": _activation("sigmoid")}
_GRU_CELL: Options = {**_LSTM_CELL, "reset_after": Option(flag, False)}
_ADAPTER = only(None, because="merge the adapters of LoRA before saving")
_QUANTIZED = only(None, because="save the model before quantizing it; treadle has its own int8")
_PADDING = ("valid", "same")
_FORMAT: Options = {
    "data_format": Option(choice("channels_last", "channels_first"), "channels_last")
}
_AXIS_LAST: Options = {"axis": Option(axis, -1)}


def _convolution(rank: int, *, causal: bool = False) -> Options:
    return {
        "filters": Option(positive, required=True),
        "kernel_size": Option(sizes(rank), required=True),
        "strides": Option(sizes(rank), (1,) * rank),
        "padding": Option(choice(*_PADDING, *(["causal"] if causal else [])), "valid"),
        **_FORMAT,
        "dilation_rate": Option(sizes(rank), (1,) * rank),
        "groups": Option(positive, 1),
        "activation": _activation("linear"),
        "use_bias": Option(flag, True),
        "lora_rank": Option(_ADAPTER),
        "quantization_config": Option(_QUANTIZED),
    }


def _transposed(rank: int) -> Options:
    output_padding = optional(sizes(rank, count))
    options = {**_convolution(rank), "output_padding": Option(output_padding)}
    return {**options, "groups": Option(only(1, because="Keras has no other here"), 1)}


def _separable(rank: int) -> Options:
    options = _convolution(rank, causal=rank == 1)
    del options["groups"]
    return {**options, "depth_multiplier": Option(positive, 1)}


def _depthwise(rank: int) -> Options:
    options = _separable(rank)
    del options["filters"]
    return options


def _pool(rank: int) -> Options:
    return {
        "pool_size": Option(sizes(rank), (2,) * rank),
        "strides": Option(optional(sizes(rank))),
        "padding": Option(choice(*_PADDING), "valid"),
        **_FORMAT,
    }


_GLOBAL_POOL: Options = {**_FORMAT, "keepdims": Option(flag, False)}
_SCALED: Options = {
    "epsilon": Option(not_negative, 1e-3),
    "center": Option(flag, True),
    "scale": Option(flag, True),
}

KINDS: dict[str, Options] = {
    "InputLayer": {
        "dtype": Option(text, "float32"),
        "sparse": Option(only(False, None, because="inputs are dense arrays"), False),
        "ragged": Option(only(False, None, because="inputs are dense arrays"), False),
        "optional": Option(only(False, because="every input must be given"), False),
    },
    "Embedding": {
        "input_dim": Option(positive, required=True),
        "output_dim": Option(positive, required=True),
        "mask_zero": Option(flag, False),
        "lora_rank": Option(_ADAPTER),
        "quantization_config": Option(_QUANTIZED),
    },
    "Masking": {"mask_value": Option(number, 0.0)},
    "SimpleRNN": {**_RNN_CELL, **_OUTPUTS},
    "LSTM": {**_LSTM_CELL, **_OUTPUTS},
    "GRU": {**_GRU_CELL, **_OUTPUTS},
    "RNN": dict(_OUTPUTS),
    "Bidirectional": {
        "merge_mode": Option(choice("concat", "sum", "mul", "ave", None), "concat", nullable=True),
    },
    "TimeDistributed": {},
    "Dense": {
        "units": Option(positive, required=True),
        "activation": _activation("linear"),
        "use_bias": Option(flag, True),
        "lora_rank": Option(_ADAPTER),
        "quantization_config": Option(_QUANTIZED),
    },
    "Dropout": {},
    "SpatialDropout1D": {},
    "SpatialDropout2D": {},
    "GaussianNoise": {},
    "GaussianDropout": {},
    "AlphaDropout": {},
    "ActivityRegularization": {},
    "Identity": {},
    "Activation": {"activation": _activation("linear")},
    "ReLU": {
        "max_value": Option(optional(not_negative)),
        "negative_slope": Option(not_negative, 0.0),
        "threshold": Option(not_negative, 0.0),
    },
    "LeakyReLU": {"negative_slope": Option(number, 0.3)},
    "PReLU": {"shared_axes": Option(optional(listed(positive)))},
    "ELU": {"alpha": Option(number, 1.0)},
    "Softmax": {"axis": Option(listed(axis), (-1,))},
    "Conv1D": _convolution(1, causal=True),
    "Conv2D": _convolution(2),
    "Conv1DTranspose": _transposed(1),
    "Conv2DTranspose": _transposed(2),
    "SeparableConv1D": _separable(1),
    "SeparableConv2D": _separable(2),
    "DepthwiseConv1D": _depthwise(1),
    "DepthwiseConv2D": _depthwise(2),
    "MaxPooling1D": _pool(1),
    "MaxPooling2D": _pool(2),
    "AveragePooling1D": _pool(1),
    "AveragePooling2D": _pool(2),
    "GlobalMaxPooling1D": _GLOBAL_POOL,
    "GlobalMaxPooling2D": _GLOBAL_POOL,
    "GlobalAveragePooling1D": _GLOBAL_POOL,
    "GlobalAveragePooling2D": _GLOBAL_POOL,
    "BatchNormalization": {
        **_SCALED,
        "axis": Option(one_axis, -1),
        "renorm": Option(only(False, because=_RATE), False),
    },
    "LayerNormalization": {
        **_SCALED,
        "axis": Option(listed(axis), (-1,)),
        "rms_scaling": Option(flag, False),
    },
    "GroupNormalization": {
        **_SCALED,
        "axis": Option(one_axis, -1),
        "groups": Option(integer(-1), 32),
    },
    "UnitNormalization": {"axis": Option(listed(axis), (-1,))},
    "Flatten": dict(_FORMAT),
    "Reshape": {"target_shape": Option(target_shape, required=True)},
    "Permute": {"dims": Option(listed(positive), required=True)},
    "RepeatVector": {"n": Option(positive, required=True)},
    "Concatenate": dict(_AXIS_LAST),
    "Add": {},
    "Subtract": {},
    "Multiply": {},
    "Average": {},
    "Maximum": {},
    "Minimum": {},
    "Dot": {
        "axes": Option(sizes(2, axis), required=True),
        "normalize": Option(flag, False),
    },
    "ZeroPadding1D": {"padding": Option(pairs(1), (1, 1)), **_FORMAT},
    "ZeroPadding2D": {"padding": Option(pairs(2), ((1, 1), (1, 1))), **_FORMAT},
    "Cropping1D": {"cropping": Option(pairs(1), (1, 1))},
    "Cropping2D": {"cropping": Option(pairs(2), ((0, 0), (0, 0))), **_FORMAT},
    "UpSampling1D": {"size": Option(positive, 2)},
    "UpSampling2D": {
        "size": Option(sizes(2), (2, 2)),
        "interpolation": Option(choice("nearest", "bilinear"), "nearest"),
        **_FORMAT,
    },
    "MultiHeadAttention": {
        "num_heads": Option(positive, required=True),
        "key_dim": Option(positive, required=True),
        "value_dim": Option(optional(positive)),
        "use_bias": Option(flag, True),
        # Masked rows are treated in another way where there is dropout, even outside of training.
        "dropout": Option(number, 0.0),
        "use_gate": Option(only(False, None, because="gated attention is not supported"), False),
        "output_shape": Option(optional(listed(positive))),
        "attention_axes": Option(optional(listed(axis))),
        "sliding_window": Option(only(None, because="windows of attention are not supported")),
    },
    "Attention": {
        "use_scale": Option(flag, False),
        "score_mode": Option(choice("dot", "concat"), "dot"),
        "causal": Option(only(False, because="Keras 3 has use_causal_mask instead"), False),
    },
    "AdditiveAttention": {
        "use_scale": Option(flag, True),
        "causal": Option(only(False, because="Keras 3 has use_causal_mask instead"), False),
    },
    "Rescaling": {"scale": Option(numbers, 1.0), "offset": Option(numbers, 0.0)},
    "Normalization": {
        "axis": Option(optional(listed(axis)), (-1,), nullable=True),
        "mean": Option(optional(numbers)),
        "variance": Option(optional(numbers)),
        "invert": Option(flag, False),
    },
}

CELLS: dict[str, Options] = {
    "SimpleRNNCell": _RNN_CELL,
    "LSTMCell": _LSTM_CELL,
    "GRUCell": _GRU_CELL,
}

# Options that Keras 2 names otherwise.
RENAMED = {"LeakyReLU": {"alpha": "negative_slope"}}

MODELS = {"Sequential": "Sequential", "Functional": "Functional", "Model": "Functional"}

# Operations that expressions of tensors put into functional models; "ops.Add" here.
OPERATIONS = frozenset(
    {
        *("Absolute", "Add", "All", "Any", "Arccos", "Arcsin", "Arctan", "Argmax", "Argmin"),
        *("Average", "BroadcastTo", "Cast", "Ceil", "Clip", "Concatenate", "ConvertToTensor"),
        *("Cos", "Cumsum"),
        *("Divide", "Dot", "Elu", "Equal", "Erf", "Exp", "Expm1", "ExpandDims", "Flip", "Floor"),
        *("FloorDivide", "Gelu", "GetItem", "Greater", "GreaterEqual", "HardSigmoid", "HardSilu"),
        *("HardTanh", "LeakyRelu", "Less", "LessEqual", "Log", "Log1p", "LogSigmoid", "LogSoftmax"),
        *("LogicalAnd", "LogicalNot", "LogicalOr", "Logsumexp", "Matmul", "Max", "Maximum", "Mean"),
        *("Min", "Minimum", "Mish", "Mod", "Moveaxis", "Multiply", "Negative", "NotEqual"),
        *("OnesLike", "Pad", "Power", "Prod", "Reciprocal", "Relu", "Relu6", "Repeat", "Reshape"),
        *("Round", "Rsqrt", "Selu", "Sigmoid", "Sign", "Silu", "Sin", "Softmax", "Softplus"),
        *("Softsign", "Split", "Sqrt", "Square", "Squeeze", "Stack", "Std", "Subtract", "Sum"),
        *("SwapAxes", "Swapaxes", "Take", "Tanh", "Tile", "Transpose", "TrueDivide", "Var"),
        *("Where", "ZerosLike"),
    }
)

# Layers that people meet, with what to do about each.
_OTHERWISE = "export the model to ONNX (treadle.onnx.load runs it) or capture its torch module"
REFUSED = {
    "Lambda": f"it is Python code, which treadle never runs from a file; {_OTHERWISE}",
    "TFOpLambda": f"it is a function of TensorFlow, named in the file; {_OTHERWISE}",
    "SlicingOpLambda": f"it is a function of TensorFlow, named in the file; {_OTHERWISE}",
    "CuDNNLSTM": "its weights lie as cuDNN has them; load it with Keras 2, give the weights to an "
    "LSTM and save that",
    "CuDNNGRU": "its weights lie as cuDNN has them; load it with Keras 2, give the weights to a "
    "GRU and save that",
    "StringLookup": "treadle has no strings; look words up before the call, and save the model "
    "behind the layer",
    "TextVectorization": "treadle has no strings; look words up before the call, and save the "
    "model behind the layer",
}
INSTEAD = f"not among those that treadle reads; {_OTHERWISE}"
SHAPE = optional(shape)

"""The reference itself, against PyTorch in float64, onnx.reference and onnxruntime."""

import numpy as np
import pytest
import torch

from reference import recurrent as reference
from reference import recurrent_torch
from support import activations, samples
from support.bits import recurrent as recorded
from support.tolerance import EPS, flatten

BOUND = 1e-13  # float64 on both sides, states below 4: a few hundred roundings of 1e-16


def torch_module(mode, parameters, *args, **kwargs):
    module = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[mode]
    module = module(*args, **kwargs).double()
    module.load_state_dict({k: torch.from_numpy(v.astype(float)) for k, v in parameters.items()})
    return module


def as_torch(state):
    if state is None:
        return None
    if isinstance(state, tuple):
        return tuple(as_torch(part) for part in state)
    return torch.from_numpy(state.astype(float))


def assert_agree(result, expected):
    for ours, theirs in zip(flatten(result), flatten(expected), strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=BOUND)


@pytest.mark.parametrize("with_state", [False, True], ids=["zero", "state"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "nobias"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["D1", "D2"])
@pytest.mark.parametrize("num_layers", [1, 3], ids=["L1", "L3"])
@pytest.mark.parametrize("mode", [*samples.MODES, "rnn-relu", "lstm-proj"])
def test_module_is_torchs(mode, num_layers, bidirectional, bias, with_state):
    mode, _, variant = mode.partition("-")
    size = {"num_layers": num_layers, "bidirectional": bidirectional, "bias": bias}
    proj = {"proj_size": 3} if variant == "proj" else {}
    relu = {"nonlinearity": "relu"} if variant == "relu" else {}
    weights = samples.parameters(mode, 5, 7, **size, **proj)
    x = samples.normal(3, 9, 4, 5)
    state = None
    if with_state:
        state = samples.states(mode, [num_layers * (1 + bidirectional)], 4, 7, **proj)
    module = torch_module(mode, weights, 5, 7, **size, **proj, **relu)
    with torch.inference_mode():
        expected = module(as_torch(x), as_torch(state))
    size.pop("bias")
    assert_agree(reference.module(mode, weights, x, state, **size, **relu), expected)


@pytest.mark.parametrize("mode", [*samples.MODES, "lstm-proj"])
def test_lengths_are_packed_sequences(mode):
    mode, _, variant = mode.partition("-")
    proj = {"proj_size": 3} if variant == "proj" else {}
    weights = samples.parameters(mode, 5, 7, num_layers=2, bidirectional=True, **proj)
    x, lengths = samples.normal(3, 9, 6, 5), [4, 9, 1, 6, 9, 2]
    state = samples.states(mode, [4], 6, 7, **proj)
    module = torch_module(mode, weights, 5, 7, num_layers=2, bidirectional=True, **proj)
    packed = torch.nn.utils.rnn.pack_padded_sequence(as_torch(x), lengths, enforce_sorted=False)
    with torch.inference_mode():
        y, final = module(packed, as_torch(state))
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, total_length=9)
    result = reference.module(
        mode, weights, x, state, num_layers=2, bidirectional=True, lengths=lengths
    )
    assert_agree(result, (y, final))


@pytest.mark.parametrize("mode", samples.MODES)
def test_cells_are_torchs(mode):
    weights, _ = samples.layer(mode, 5, 7)
    x, state = samples.normal(3, 4, 5), samples.states(mode, [], 4, 7)
    cell = {"rnn": torch.nn.RNNCell, "lstm": torch.nn.LSTMCell, "gru": torch.nn.GRUCell}[mode]
    cell = cell(5, 7).double()
    names = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
    cell.load_state_dict(dict(zip(names, as_torch(tuple(weights)), strict=True)))
    with torch.inference_mode():
        expected = cell(as_torch(x), as_torch(state))
    assert_agree(getattr(reference, mode + "_cell")(x, *flatten(state), *weights), expected)


TORCH_ACTIVATIONS = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "linear": lambda x: x,
    "hard_sigmoid": torch.nn.functional.hardsigmoid,
    "softsign": torch.nn.functional.softsign,
    "softplus": lambda x: torch.nn.functional.softplus(x, threshold=1000),
    "elu": torch.nn.functional.elu,
    ("elu", 0.3): lambda x: torch.nn.functional.elu(x, 0.3),
    "leaky_relu": torch.nn.functional.leaky_relu,
    ("leaky_relu", 0.2): lambda x: torch.nn.functional.leaky_relu(x, 0.2),
    "thresholded_relu": lambda x: torch.nn.functional.threshold(x, 1, 0),
    ("affine", 2.0, -0.5): lambda x: 2 * x - 0.5,
    ("scaled_tanh", 1.7, 0.6): lambda x: 1.7 * torch.tanh(0.6 * x),
    ("hard_sigmoid", 0.2, 0.5): lambda x: torch.clamp(0.2 * x + 0.5, 0, 1),
    "gelu": torch.nn.functional.gelu,
    "gelu_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    "silu": torch.nn.functional.silu,
    "hard_swish": torch.nn.functional.hardswish,
    "clip": torch.nn.functional.relu6,
    ("clip", -0.5, 2.0): lambda x: torch.nn.functional.hardtanh(x, -0.5, 2.0),
}


def test_every_activation_is_compared():
    """Every activation is compared with PyTorch, and in the references and the record of bits."""
    assert activations.names_of(TORCH_ACTIVATIONS) == set(activations.NAMES)
    assert set(recurrent_torch.ACTIVATIONS) == set(activations.NAMES)
    assert activations.names_of(recorded.ACTIVATIONS) == set(activations.NAMES)


@pytest.mark.parametrize("spec", TORCH_ACTIVATIONS, ids=str)
def test_activations_are_torchs(spec):
    x = np.concatenate([np.linspace(-90, 90, 1001), [np.nan, 0.0, -0.0, 1e-20, -1e-20]])
    expected = TORCH_ACTIVATIONS[spec](torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(reference.activation(spec, x), expected, rtol=1e-15, atol=BOUND)


def test_activation_none_is_linear():
    assert reference.activation(None, np.float64([-2.5])) == -2.5


# The options that torch does not have: in terms of things that it has.


@pytest.mark.parametrize("mode", samples.MODES)
def test_mask_of_a_prefix_is_lengths_with_a_held_output(mode):
    """Keras' mask on right padding: torch's packed result, and the last output repeated."""
    weights, _ = samples.layer(mode, 5, 7)
    x, lengths = samples.normal(3, 6, 3, 5), np.array([4, 6, 0])
    run = getattr(reference, mode)
    y, final = run(x, *weights, lengths=lengths)
    y_mask, final_mask = run(x, *weights, mask=np.arange(6) < lengths[:, None])
    for a, b in zip(flatten(final), flatten(final_mask), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(y_mask[:4, 0], y[:4, 0])
    np.testing.assert_array_equal(y_mask[4:, 0], np.broadcast_to(y[3, 0], (2, 7)))
    np.testing.assert_array_equal(y_mask[:, 2], 0)


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("mode", samples.MODES)
def test_mask_drops_steps(mode, reverse):
    """The steps that are left form the sequence; the others repeat the one processed before."""
    weights, _ = samples.layer(mode, 5, 7)
    x, mask = samples.normal(3, 6, 1, 5), np.array([[0, 1, 0, 1, 1, 0]], bool)
    run = getattr(reference, mode)
    y, final = run(x, *weights, mask=mask, reverse=reverse)
    short, short_final = run(x[mask[0]], *weights, reverse=reverse)
    source = [0, 0, 1, 1, 2, None] if reverse else [None, 0, 0, 1, 2, 2]
    for t, index in enumerate(source):
        np.testing.assert_array_equal(y[t], 0 if index is None else short[index])
    for a, b in zip(flatten(final), flatten(short_final), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("given", [False, True], ids=["zero", "given"])
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("mode", samples.MODES)
def test_resets_cut_the_row(mode, reverse, given):
    """Each piece between two resets is a call of its own, in both directions."""
    weights, _ = samples.layer(mode, 5, 7)
    x, state = samples.normal(3, 7, 1, 5), samples.states(mode, [], 1, 7)
    fresh = samples.states(mode, [], 1, 7, seed=9) if given else None
    run = getattr(reference, mode)
    resets = np.zeros((7, 1), bool)
    resets[[2, 3, 6]] = True
    y, final = run(x, *weights, *flatten(state), reverse=reverse, resets=resets, reset_state=fresh)
    pieces = [slice(0, 2), slice(2, 3), slice(3, 6), slice(6, 7)]
    first, last = (-1, 0) if reverse else (0, -1)
    for piece in pieces:
        start = state if piece == pieces[first] else fresh
        start = [] if start is None else flatten(start)
        expected, expected_final = run(x[piece], *weights, *start, reverse=reverse)
        np.testing.assert_array_equal(y[piece], expected)
        if piece == pieces[last]:
            for a, b in zip(flatten(final), flatten(expected_final), strict=True):
                np.testing.assert_array_equal(a, b)


def test_reset_at_the_first_step_replaces_the_initial_state_forwards_only():
    weights, _ = samples.layer("gru", 5, 7)
    x, h_0 = samples.normal(3, 4, 1, 5), samples.normal(4, 1, 7)
    resets = np.array([[True], [False], [False], [False]])
    forward, _ = reference.gru(x, *weights, h_0, resets=resets)
    np.testing.assert_array_equal(forward, reference.gru(x, *weights)[0])
    reverse, _ = reference.gru(x, *weights, h_0, resets=resets, reverse=True)
    np.testing.assert_array_equal(reverse, reference.gru(x, *weights, h_0, reverse=True)[0])


def test_resets_beyond_a_length_do_nothing():
    weights, _ = samples.layer("gru", 5, 7)
    x, h_0 = samples.normal(3, 5, 1, 5), samples.normal(4, 1, 7)
    resets = np.array([0, 0, 0, 1, 1], bool)[:, None]
    for reverse in (False, True):
        options = {"lengths": [3], "reverse": reverse}
        plain = reference.gru(x, *weights, h_0, **options)
        for a, b in zip(plain, reference.gru(x, *weights, h_0, resets=resets, **options),
                        strict=True):  # fmt: skip
            np.testing.assert_array_equal(a, b)


# ONNX: onnx.reference knows peepholes and linear_before_reset; onnxruntime, in float32, the rest.

ONNX_ORDER = {"rnn": [0], "lstm": [0, 3, 1, 2], "gru": [1, 0, 2]}
ONNX_NAMES = {
    "tanh": "Tanh", "sigmoid": "Sigmoid", "relu": "Relu", "hard_sigmoid": "HardSigmoid",
    "softsign": "Softsign", "softplus": "Softplus", "elu": "Elu", "leaky_relu": "LeakyRelu",
    "affine": "Affine", "thresholded_relu": "ThresholdedRelu", "scaled_tanh": "ScaledTanh",
}  # fmt: skip


def onnx_model(mode, arrays, attributes):
    """A model of one operator whose inputs are `arrays` (None where absent)."""
    onnx = pytest.importorskip("onnx")
    names = [f"in{i}" if a is not None else "" for i, a in enumerate(arrays)]
    outputs = ["y", "h", "c"][: 3 if mode == "lstm" else 2]
    node = onnx.helper.make_node(mode.upper(), names, outputs, **attributes)
    types = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in zip(names, arrays, strict=True)
        if array is not None
    ]
    dtype = onnx.helper.np_dtype_to_tensor_dtype(arrays[0].dtype)
    results = [onnx.helper.make_tensor_value_info(name, dtype, None) for name in outputs]
    graph = onnx.helper.make_graph([node], "one", types, results)
    return onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 14)], ir_version=8
    )


def onnx_inputs(mode, x, weights, state, dtype, *, lengths=None, peepholes=None):
    """The operator's inputs in its gate order, with one leading axis for the direction."""

    def ordered(array):
        parts = np.split(array, samples.GATES[mode])
        return np.concatenate([parts[i] for i in ONNX_ORDER[mode]])[None].astype(dtype)

    weight_ih, weight_hh, bias_ih, bias_hh = map(ordered, weights)
    bias = np.concatenate([bias_ih, bias_hh], axis=1)
    states = [part[None].astype(dtype) for part in flatten(state)]
    arrays = [x.astype(dtype), weight_ih, weight_hh, bias, lengths, *states]
    return arrays if peepholes is None else [*arrays, peepholes[None].astype(dtype)]


def feed(arrays):
    return {f"in{i}": array for i, array in enumerate(arrays) if array is not None}


def without_direction(mode, outputs):
    """ONNX' y [T, D, B, H] and finals [D, B, H] of one direction, in the reference's form."""
    y, *final = outputs
    final = tuple(part[0] for part in final)
    return y[:, 0], final if mode == "lstm" else final[0]


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("case", ["rnn", "lstm", "lstm-peepholes", "gru-before", "gru-after"])
def test_onnx_reference(case, reverse):
    pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    mode, _, variant = case.partition("-")
    weights, _ = samples.layer(mode, 5, 7)
    x, state = samples.normal(3, 6, 4, 5), samples.states(mode, [], 4, 7)
    options, attributes, peepholes = {}, {"hidden_size": 7}, None
    if variant == "peepholes":
        peepholes = options["peepholes"] = samples.normal(8, 21)
    if mode == "gru":
        options["reset_after"] = variant == "after"
        attributes["linear_before_reset"] = int(variant == "after")
    attributes["direction"] = "reverse" if reverse else "forward"
    arrays = onnx_inputs(mode, x, weights, state, np.float64, peepholes=peepholes)
    outputs = ReferenceEvaluator(onnx_model(mode, arrays, attributes)).run(None, feed(arrays))
    result = getattr(reference, mode)(x, *weights, *flatten(state), reverse=reverse, **options)
    expected = flatten(without_direction(mode, outputs))
    for ours, theirs in zip(flatten(result), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=BOUND)


ORT_CASES = {
    "rnn": ("rnn", {"nonlinearity": "tanh"}),
    "rnn-clip": ("rnn", {"nonlinearity": "tanh", "clip": 0.3}),
    "rnn-elu": ("rnn", {"nonlinearity": ("elu", 0.7)}),
    "rnn-thresholded": ("rnn", {"nonlinearity": ("thresholded_relu", 0.2)}),
    "lstm-clip": ("lstm", {"clip": 0.25}),
    "lstm-forget": ("lstm", {"input_forget": True}),
    "lstm-clip-peepholes": ("lstm", {"clip": 0.25, "peepholes": samples.normal(8, 21)}),
    "lstm-activations": (
        "lstm",
        {
            "recurrent_activation": ("hard_sigmoid", 0.2, 0.5),
            "activation": "softsign",
            "output_activation": ("leaky_relu", 0.1),
        },
    ),
    "lstm-affine": (
        "lstm",
        {
            "recurrent_activation": ("affine", 0.3, 0.4),
            "activation": ("scaled_tanh", 0.9, 1.3),
            "output_activation": "relu",
        },
    ),
    "gru-before": ("gru", {"reset_after": False}),
    "gru-after": ("gru", {"reset_after": True}),
    "gru-before-clip": ("gru", {"reset_after": False, "clip": 0.25}),
    "gru-after-clip": ("gru", {"reset_after": True, "clip": 0.25}),
    "gru-activations": (
        "gru",
        {
            "recurrent_activation": ("hard_sigmoid", 0.2, 0.5),
            "activation": "softplus",
            "reset_after": False,
        },
    ),
}


def onnx_attributes(mode, options):
    default = {"rnn": ["tanh"], "lstm": ["sigmoid", "tanh", "tanh"], "gru": ["sigmoid", "tanh"]}
    keys = {
        "rnn": ["nonlinearity"],
        "lstm": ["recurrent_activation", "activation", "output_activation"],
        "gru": ["recurrent_activation", "activation"],
    }[mode]
    names, alphas, betas = [], [], []
    for key, fallback in zip(keys, default[mode], strict=True):
        name, *given = np.atleast_1d(np.array(options.get(key, fallback), object)).tolist()
        names.append(ONNX_NAMES[name])
        alphas += given[:1]
        betas += given[1:]
    attributes = {"hidden_size": 7, "activations": names}
    attributes |= {"activation_alpha": alphas} if alphas else {}
    attributes |= {"activation_beta": betas} if betas else {}
    attributes |= {"clip": options["clip"]} if "clip" in options else {}
    attributes |= {"input_forget": 1} if options.get("input_forget") else {}
    attributes |= (
        {"linear_before_reset": int(options["reset_after"])} if "reset_after" in options else {}
    )
    return attributes


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("case", ORT_CASES)
def test_onnxruntime(case, reverse):
    """Every attribute of the operators, with sequence_lens, a zero among them."""
    onnxruntime = pytest.importorskip("onnxruntime")
    mode, options = ORT_CASES[case]
    weights, _ = samples.layer(mode, 5, 7)
    # onnxruntime returns zero, treadle the initial state, for a row of no steps: start from zero.
    x, state = samples.normal(3, 6, 4, 5), samples.states(mode, [], 4, 7)
    lengths = np.array([6, 3, 0, 1], np.int32)
    for part in flatten(state):
        part[2] = 0
    arrays = onnx_inputs(
        mode, x, weights, state, np.float32,
        lengths=lengths, peepholes=options.get("peepholes"),
    )  # fmt: skip
    attributes = onnx_attributes(mode, options)
    attributes["direction"] = "reverse" if reverse else "forward"
    model = onnx_model(mode, arrays, attributes)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    expected = flatten(without_direction(mode, session.run(None, feed(arrays))))
    result = getattr(reference, mode)(
        x, *weights, *flatten(state), reverse=reverse, lengths=lengths, **options
    )
    for ours, theirs in zip(flatten(result), expected, strict=True):
        # float32 on one side, 12 products and one activation a step, six steps
        np.testing.assert_allclose(theirs, ours, rtol=0, atol=64 * EPS)

"""from_torch on random configurations, against PyTorch: its float64 result is the exact one."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import treadle
from reference import recurrent as reference
from support import samples
from support.tolerance import assert_close, assert_same_bits, flatten

PACK = torch.nn.utils.rnn.pack_padded_sequence
PAD = torch.nn.utils.rnn.pad_packed_sequence


@st.composite
def layers(draw):
    """Draw a torch module and the sizes T, B of an input."""
    kind = draw(st.sampled_from(["RNN", "LSTM", "GRU"]))
    hidden = draw(st.integers(1, 40))
    options = {
        "input_size": draw(st.integers(1, 20)),
        "hidden_size": hidden,
        "num_layers": draw(st.integers(1, 3)),
        "bias": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
        "bidirectional": draw(st.booleans()),
    }
    if kind == "RNN":
        options["nonlinearity"] = draw(st.sampled_from(["tanh", "relu"]))
    if kind == "LSTM" and hidden > 1:
        options["proj_size"] = draw(st.sampled_from([0, 0, 1, hidden // 2, hidden - 1]))
    torch.manual_seed(draw(st.integers(0, 99)))
    module = getattr(torch.nn, kind)(**options)
    return module, draw(st.integers(1, 9)), draw(st.integers(1, 9))


def random_state(module, batch):
    directions = (1 + module.bidirectional) * module.num_layers
    h = torch.randn(directions, batch, module.proj_size or module.hidden_size)
    if module.mode == "LSTM":
        return h, torch.randn(directions, batch, module.hidden_size)
    return h


def double(value):
    """Return tensors, tuples of them and None in float64."""
    if isinstance(value, tuple):
        return tuple(map(double, value))
    return value if value is None else value.double()


def rounded(module, x, state, lengths=None):
    """Return the result of the formula in float32 NumPy, which tells the error that is allowed."""
    time_major = x.swapaxes(0, 1) if module.batch_first else x
    extra = {"nonlinearity": module.nonlinearity} if isinstance(module, torch.nn.RNN) else {}
    parameters = {name: value.numpy() for name, value in module.state_dict().items()}
    start = state
    if state is not None:
        start = tuple(map(np.asarray, state)) if isinstance(state, tuple) else np.asarray(state)
    y, final = reference.module(
        type(module).__name__.lower(), parameters, np.asarray(time_major), start,
        num_layers=module.num_layers, bidirectional=module.bidirectional, lengths=lengths,
        dtype=np.float32, **extra,
    )  # fmt: skip
    return y.swapaxes(0, 1) if module.batch_first else y, final


def assert_agree(result, exact, simple, **kind):
    assert_close(result, [part.numpy() for part in flatten(exact)], simple, **kind)


@settings(max_examples=150)
@given(layers(), st.booleans())
def test_sequences(case, with_state):
    module, time, batch = case
    x = torch.randn(time, batch, module.input_size)
    x = x.transpose(0, 1) if module.batch_first else x
    state = random_state(module, batch) if with_state else None
    with torch.inference_mode():
        exact = copy.deepcopy(module).double()(x.double(), double(state))
    result = treadle.from_torch(module)(x, state)
    assert_agree(result, exact, rounded(module, x, state))


@settings(max_examples=150)
@given(layers(), st.booleans(), st.data())
def test_packed_sequences(case, with_state, data):
    """Lengths may come in any order. PyTorch wants them sorted, or sorts them itself, and takes no
    zero."""
    module, time, batch = case
    lengths = data.draw(st.lists(st.integers(1, time), min_size=batch, max_size=batch))
    x = torch.randn(time, batch, module.input_size)
    x = x.transpose(0, 1) if module.batch_first else x
    state = random_state(module, batch) if with_state else None
    packed = PACK(x.double(), lengths, module.batch_first, enforce_sorted=False)
    with torch.inference_mode():
        y, final = copy.deepcopy(module).double()(packed, double(state))
        y, _ = PAD(y, module.batch_first, total_length=time)
    result = treadle.from_torch(module)(x, state, lengths=lengths)
    assert_agree(result, (y, final), rounded(module, x, state, lengths))


@settings(max_examples=50)
@given(layers(), st.booleans())
def test_unbatched(case, with_state):
    module, time, _ = case
    x = torch.randn(time, module.input_size)
    state = random_state(module, 1) if with_state else None
    single = state
    if with_state:
        single = tuple(s[:, 0] for s in state) if isinstance(state, tuple) else state[:, 0]
    with torch.inference_mode():
        exact = copy.deepcopy(module).double()(x.double(), double(single))
    y, final = rounded(module, x[None] if module.batch_first else x[:, None], state)
    y = y[0] if module.batch_first else y[:, 0]
    final = tuple(f[:, 0] for f in final) if isinstance(final, tuple) else final[:, 0]
    assert_agree(treadle.from_torch(module)(x, single), exact, (y, final))


@settings(max_examples=100)
@given(
    st.sampled_from(["RNNCell", "LSTMCell", "GRUCell"]),
    st.integers(1, 20), st.integers(1, 40), st.integers(1, 9),
    st.booleans(), st.booleans(), st.integers(0, 99),
)  # fmt: skip
def test_cells(kind, inputs, hidden, batch, bias, relu, seed):
    torch.manual_seed(seed)
    extra = {"nonlinearity": "relu"} if kind == "RNNCell" and relu else {}
    cell = getattr(torch.nn, kind)(inputs, hidden, bias, **extra)
    x, h, c = torch.randn(batch, inputs), torch.randn(batch, hidden), torch.randn(batch, hidden)
    state = (h, c) if kind == "LSTMCell" else h
    with torch.inference_mode():
        exact = copy.deepcopy(cell).double()(x.double(), double(state))
    step = getattr(reference, kind.replace("Cell", "_cell").lower())
    weights = [value.numpy() for value in cell.state_dict().values()]
    simple = step(x.numpy(), *map(np.asarray, flatten(state)), *weights, dtype=np.float32, **extra)
    assert_agree(treadle.from_torch(cell)(x, state), exact, simple, cell=True)


def test_the_weights_are_a_copy():
    module = torch.nn.GRU(5, 7)
    ours = treadle.from_torch(module)
    x = samples.normal(0, 4, 2, 5)
    before = ours(x)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    assert_same_bits(ours(x), before)


def test_configuration_is_taken_over():
    module = torch.nn.LSTM(5, 7, 2, False, True, 0.5, True, 3)  # dropout 0.5
    expected = (
        "LSTM(5, 7, num_layers=2, bias=False, batch_first=True, bidirectional=True, proj_size=3)"
    )
    assert repr(treadle.from_torch(module)) == expected
    assert repr(treadle.from_torch(torch.nn.RNN(5, 7, nonlinearity="relu"))) == (
        "RNN(5, 7, nonlinearity='relu')"
    )
    assert (
        repr(treadle.from_torch(torch.nn.GRUCell(5, 7, bias=False))) == "GRUCell(5, 7, bias=False)"
    )


def test_tensors_are_arrays():
    """Inputs and states may be torch tensors, strided or requiring gradients, and give the same
    bits."""
    module = treadle.LSTM(5, 7, num_layers=2, seed=0)
    x, state = samples.normal(0, 4, 3, 5), samples.states("lstm", [2], 3, 7)
    expected = module(x, state)
    tensors = tuple(map(torch.from_numpy, state))
    assert_same_bits(module(torch.from_numpy(x), tensors), expected)
    assert_same_bits(module(torch.from_numpy(x).requires_grad_(), tensors), expected)
    turned = torch.from_numpy(np.ascontiguousarray(x.T)).permute(2, 1, 0)
    assert_same_bits(module(turned, tensors), expected)
    with torch.inference_mode():
        assert_same_bits(module(torch.from_numpy(x) * 1, tensors), expected)
    assert all(type(part) is np.ndarray for part in flatten(module(torch.from_numpy(x))))


class OwnForward(torch.nn.LSTM):
    def forward(self, x, hx=None):
        return super().forward(x * 2, hx)


class NoForward(torch.nn.LSTM):
    pass


def test_subclasses():
    """A subclass is converted only if it computes what torch.nn.LSTM computes."""
    assert repr(treadle.from_torch(NoForward(5, 7))) == "LSTM(5, 7)"
    with pytest.raises(TypeError, match=r"^treadle\.from_torch: .*OwnForward"):
        treadle.from_torch(OwnForward(5, 7))


WRONG = {
    "None": None,
    "class": torch.nn.LSTM,
    "bilinear": torch.nn.Bilinear(3, 4, 5),
    "text": "LSTM",
    "state dict": torch.nn.LSTM(3, 4).state_dict(),
    "list of modules": torch.nn.ModuleList([torch.nn.LSTM(3, 4)]),
    "treadle's": treadle.LSTM(3, 4),
}


@pytest.mark.parametrize("module", WRONG.values(), ids=WRONG)
def test_something_else(module):
    with pytest.raises(TypeError, match=r"^treadle\.from_torch: module "):
        treadle.from_torch(module)


@pytest.mark.parametrize(
    "change", [lambda m: m.double(), lambda m: m.half(), lambda m: m.to("meta")],
    ids=["float64", "float16", "meta"],
)  # fmt: skip
def test_other_dtypes_and_devices(change):
    with pytest.raises(TypeError, match=r"^treadle\.from_torch: weight_ih_l0 "):
        treadle.from_torch(change(torch.nn.LSTM(3, 4)))


def test_bfloat16():
    """The weights of a module in bfloat16 are converted exactly."""
    theirs = torch.nn.LSTM(3, 4).bfloat16()
    ours = treadle.from_torch(theirs)
    assert repr(ours) == "LSTM(3, 4)"
    for name, value in theirs.state_dict().items():
        assert_same_bits(getattr(ours, name), value.float().numpy())

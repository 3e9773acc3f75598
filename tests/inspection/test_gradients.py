"""Gradient flow and saliency against PyTorch's autograd over the reference's formulas."""

import numpy as np
import pytest
import torch

import treadle
import treadle.torch
from reference import recurrent_torch
from support import samples
from support.checks import make_module
from support.tolerance import EPS, assert_same_bits, flatten
from treadle.inspection import gradient_flow, saliency

T, B, I, H = 6, 3, 5, 9
OPTIONS = {
    "rnn": [{}, {"nonlinearity": "relu"}, {"nonlinearity": "softsign", "clip": 0.5}],
    "lstm": [
        {},
        {"activation": "softsign", "recurrent_activation": "hard_sigmoid"},
        {"clip": 0.4},
        {"input_forget": True},
        {"proj_size": 4},
        {"output_activation": "relu"},
        {"use_peepholes": True},
        {"use_peepholes": True, "clip": 0.7, "proj_size": 4},
    ],
    "gru": [{}, {"reset_after": False}, {"activation": "relu"}, {"clip": 0.4}],
}
CASES = [(mode, options) for mode, many in OPTIONS.items() for options in many]
CALLS = {
    "plain": {},
    "lengths": {"lengths": samples.lengths(T, B)},
    "mask": {"mask": samples.mask(T, B)},
    "resets": {"resets": samples.resets(T, B)},
}


class Recording:
    """A cell of the reference that keeps the tensors of the states it makes."""

    def __init__(self, mode):
        self.cell, self.states = recurrent_torch.CELLS[mode], []

    def __call__(self, x, *arguments, **options):
        state = self.cell(x, *arguments, **options)
        for part in state:
            part.retain_grad()
        self.states.append(state)
        return state


def by_autograd(monkeypatch, mode, module, x, dy, start, dtype, call):
    """(dx, {place: (gradients of h [T, B, P], of c or None)}) in torch, in this dtype."""
    configuration = module._configuration
    names = ("activation", "recurrent_activation", "output_activation", "clip", "input_forget",
             "reset_after", "nonlinearity")  # fmt: skip
    options = {k: configuration[k] for k in names if configuration.get(k) not in (None, False)}
    if mode == "gru":
        options["reset_after"] = configuration["reset_after"]
    parameters = {
        k: torch.tensor(v, dtype=dtype, requires_grad=True) for k, v in module.state_dict().items()
    }
    leaf = torch.tensor(x, dtype=dtype, requires_grad=True)
    value, places, number = leaf, {}, 0
    both = configuration["bidirectional"]
    for layer in range(configuration["num_layers"]):
        outputs = []
        for end in ("", "_reverse")[: 1 + both]:
            suffix = f"_l{layer}{end}"
            weights = {
                k.removesuffix(suffix): v for k, v in parameters.items()
                if k.endswith(suffix) and (end or not k.endswith("_reverse"))
            }  # fmt: skip
            weights = {k: v for k, v in weights.items() if "_l" not in k}
            recording = Recording(mode)
            monkeypatch.setitem(recurrent_torch.CELLS, mode, recording)
            states = [torch.tensor(part[number], dtype=dtype) for part in flatten(start)]
            backwards = bool(end) or configuration["reverse"]
            y, _ = recurrent_torch.sequence(
                mode, value, weights, states, reverse=backwards, **call, **options
            )
            monkeypatch.setitem(recurrent_torch.CELLS, mode, recording.cell)
            direction = "reverse" if backwards else "forward"
            order = recording.states[::-1] if backwards else recording.states
            places[f"layer{layer}.{direction}"] = order
            outputs.append(y)
            number += 1
        value = torch.cat(outputs, 2)
    value.backward(torch.tensor(dy, dtype=dtype))

    def stacked(parts):
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parts]
        return torch.stack(grads).numpy()

    found = {
        place: tuple(stacked(parts) for parts in zip(*order, strict=True))
        for place, order in places.items()
    }
    return leaf.grad.numpy(), found


def assert_near(ours, exact, rounded):
    """Twice the error of the same formulas in float32, plus 4 eps, as tests/support/tolerance."""
    assert ours.dtype == np.float32
    theirs = np.abs(rounded.astype(float) - exact).max(initial=0)
    bound = 2 * theirs + 4 * EPS * max(1, np.abs(exact).max(initial=0))
    assert np.abs(ours - exact).max(initial=0) <= bound


@pytest.mark.parametrize(("mode", "options"), CASES, ids=str)
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("shape", ["forward", "reverse", "bidirectional"])
def test_flow_and_saliency(monkeypatch, mode, options, call, shape):
    layers = 1 if shape == "reverse" else 2
    form = {} if shape == "forward" else {shape: True}
    module = {"rnn": treadle.RNN, "lstm": treadle.LSTM, "gru": treadle.GRU}[mode](
        I, H, num_layers=layers, seed=0, **form, **options
    )
    given, D = CALLS[call], layers * (1 + ("bidirectional" in form))
    x = samples.normal(3, T, B, I)
    start = samples.states(mode, [D], B, H, proj_size=options.get("proj_size", 0))
    dy = samples.normal(4, *module(x)[0].shape)
    exact, rounded = (
        by_autograd(monkeypatch, mode, module, x, dy, start, dtype, given)
        for dtype in (torch.float64, torch.float32)
    )
    flow = gradient_flow(module, x, loss=dy, state=start, **given)
    assert_same_bits(flatten(flow.output), flatten(module(x, start, **given)))
    active = np.arange(T)[:, None] < np.asarray(given.get("lengths", np.full(B, T)))
    active = active & np.asarray(given.get("mask", np.ones((B, T), bool))).T
    assert len(flow) == 2 * len(exact[1]) * (1 + (mode == "lstm"))
    for place, truth in exact[1].items():
        for number, quantity in enumerate(["hidden", "cell"][: len(truth)]):
            own = flow[f"{place}.gradients.{quantity}"]
            assert np.isnan(own[~active]).all()
            assert_near(own[active], truth[number][active], rounded[1][place][number][active])
            norms = flow[f"{place}.norms.{quantity}"]
            assert flow.axes(f"{place}.norms.{quantity}") == ("time", "batch")
            np.testing.assert_allclose(
                norms[active], np.linalg.norm(own[active].astype(float), axis=-1), rtol=EPS
            )
    seen = saliency(module, x, loss=dy, state=start, **given)
    assert_near(seen["gradients.input"], exact[0], rounded[0])
    products = (seen["gradients.input"].astype(float) * x).sum(axis=-1)
    np.testing.assert_allclose(seen["saliency"], products, rtol=EPS)


def test_losses():
    module, _ = make_module("lstm", I, H, batch_first=True)
    x = samples.normal(0, B, T, I)
    lengths = np.array([6, 2, 0])
    last = np.zeros((B, T, H), np.float32)
    last[0, 5] = last[1, 1] = 1
    y = module(x, lengths=lengths)[0]
    ways = {"last": last, "sum": np.ones_like(last), "function": y}
    for loss, array in ways.items():
        given = (lambda y: y) if loss == "function" else loss
        one = gradient_flow(module, x, loss=given, lengths=lengths)
        other = gradient_flow(module, x, loss=array, lengths=lengths)
        for name in one:
            assert_same_bits(one[name], other[name])
    flow = gradient_flow(module, x[0])
    assert flow.axes("layer0.forward.norms.cell") == ("time",)
    batched = gradient_flow(module, x[:1])
    assert_same_bits(flow["layer0.forward.gradients.hidden"],
                     batched["layer0.forward.gradients.hidden"][:, 0])  # fmt: skip
    assert saliency(module, x)["saliency"].shape == (T, B)


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_low_precision_is_that_of_its_rounded_weights(dtype):
    module = treadle.GRU(I, H, seed=0).to(dtype)
    plain = treadle.GRU(I, H)
    plain.load_state_dict(module.state_dict())
    x = samples.normal(0, T, B, I)
    one, other = gradient_flow(module, x), gradient_flow(plain, x)
    assert_same_bits(flatten(one.output), flatten(module(x)))
    for name in one:
        assert_same_bits(one[name], other[name])


@pytest.mark.parametrize("place", ["torch", "treadle"])
def test_modules_of_torch(place):
    """A loss in tensors, a module that trains: the gradients are those of autograd."""
    torch.manual_seed(0)
    package = torch.nn if place == "torch" else treadle.torch
    module = package.LSTM(I, H, num_layers=2, batch_first=True)
    x = torch.randn(B, T, I, requires_grad=True)
    target = torch.randn(B, T, H)
    found = saliency(module, x, loss=lambda y: ((y - target) ** 2).mean())
    plain = torch.nn.LSTM(I, H, num_layers=2, batch_first=True)
    plain.load_state_dict(module.state_dict())
    exact = []
    for net, dtype in ((plain.double(), torch.float64), (plain.float(), torch.float32)):
        leaf = x.detach().to(dtype).requires_grad_()
        net = net.to(dtype)
        ((net(leaf)[0] - target.to(dtype)) ** 2).mean().backward()
        exact.append(leaf.grad.numpy().swapaxes(0, 1))
    assert_near(found["gradients.input"], *exact)
    assert all(p.grad is None for p in module.parameters())


def test_sequences_of_layers():
    """An embedding, a net, a linear layer and an activation, against autograd."""
    torch.manual_seed(0)
    parts = [torch.nn.Embedding(11, I), torch.nn.GRU(I, H, batch_first=True),
             torch.nn.Linear(H, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)]  # fmt: skip
    model = treadle.Sequential(*(treadle.from_torch(part) for part in parts))
    ids = np.array([[1, 5, 9], [10, 0, 5]])
    dy = np.zeros((2, 3, 2), np.float32)
    dy[:, -1, 1] = 1
    found = saliency(model, ids, loss=dy)
    exact = []
    for dtype in (torch.float64, torch.float32):
        for part in parts:
            part.to(dtype)
        leaf = parts[0](torch.tensor(ids)).detach().requires_grad_()
        y = parts[1](leaf)[0]
        for part in parts[2:]:
            y = part(y)
        y[:, -1, 1].sum().backward()
        exact.append(leaf.grad.numpy().swapaxes(0, 1))
    assert_near(found["gradients.input"], *exact)
    flow = gradient_flow(model, ids, loss=dy)
    assert "1.layer0.forward.norms.hidden" in flow
    assert_same_bits(flow.output, model(ids))


def test_gradients_vanish_in_an_rnn_and_not_in_an_open_lstm():
    x = samples.normal(0, 100, 1, 4)
    rnn = gradient_flow(treadle.RNN(4, 16, seed=0), x)["layer0.forward.norms.hidden"]
    lstm = treadle.LSTM(4, 16, seed=0)
    bias = lstm.state_dict()["bias_ih_l0"]
    bias[16:32] = 6  # the forget gates stay open
    lstm.load_state_dict({"bias_ih_l0": bias}, strict=False)
    cell = gradient_flow(lstm, x)["layer0.forward.norms.cell"]
    assert rnn[0] < 1e-9 * rnn[-1]
    assert cell[0] > 0.1 * cell[-1]


def test_no_steps():
    for shape in ((0, 2, I), (3, 0, I)):
        flow = gradient_flow(treadle.LSTM(I, H, seed=0), np.zeros(shape, np.float32))
        assert flow["layer0.forward.norms.cell"].shape == shape[:2]


def test_what_is_refused():
    net, x = treadle.GRU(I, H, seed=0), samples.normal(0, T, B, I)
    with pytest.raises(TypeError, match=r"gradient_flow: module is of type Linear"):
        gradient_flow(treadle.Linear(2, 3), x)
    with pytest.raises(ValueError, match="loss is 'mean'"):
        gradient_flow(net, x, loss="mean")
    with pytest.raises(ValueError, match="loss has shape"):
        saliency(net, x, loss=np.zeros((1, 2), np.float32))
    with pytest.raises(TypeError, match="loss"):
        saliency(net, x, loss=lambda y: None)
    with pytest.raises(TypeError, match="nothing"):
        gradient_flow(net, x, nothing=1)
    model = treadle.Sequential(net, treadle.Transpose(0, 1))
    with pytest.raises(TypeError, match="1 is of type Transpose"):
        gradient_flow(model, x)
    with pytest.raises(TypeError, match="lengths"):
        gradient_flow(treadle.Sequential(net), x, lengths=[1, 2, 3])
    with pytest.raises(ValueError, match="scalar"):
        gradient_flow(torch.nn.GRU(I, H), torch.zeros(T, B, I), loss=lambda y: y)

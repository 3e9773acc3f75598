"""Modules of treadle.torch in other people's programs: whatever they do with torch.nn's modules has
to work with treadle's in their place."""

import copy
import io
import pickle

import pytest
import torch
from torch.nn.utils import parametrizations, parametrize

import treadle
import treadle.torch
from support import samples
from support.torch_checks import CELLS, flat, inputs, pair

pytestmark = pytest.mark.usefixtures("no_warnings_before")

IN_PLACE = {
    "mul_": lambda y: y.mul_(torch.linspace(0, 2, y.shape[-1])),
    "relu_": lambda y: y.relu_(),
    "dropout": lambda y: torch.nn.functional.dropout(y, 0.3, inplace=True),
    "masked_fill_": lambda y: y.masked_fill_(y > 0.1, 0),
    "a row": lambda y: y[0].zero_(),
    "an element of a view": lambda y: y.transpose(0, -1)[0].add_(1),
    "silu": lambda y: torch.nn.SiLU(inplace=True)(y),
}
SHOWN = {
    "RNN": ("RNN", {}),
    "relu": ("RNN", {"nonlinearity": "relu", "num_layers": 2}),
    "GRU": ("GRU", {}),
    "GRU bidirectional": ("GRU", {"num_layers": 2, "bidirectional": True}),
    "GRU batch_first": ("GRU", {"batch_first": True}),
    "projection": ("LSTM", {"proj_size": 4}),
    "GRUCell": ("GRUCell", {}),
    "LSTMCell": ("LSTMCell", {}),
}


@pytest.mark.filterwarnings("ignore:LSTM with projections")  # PyTorch's own
@pytest.mark.parametrize(
    ("case", "operation"),
    [
        (case, operation)
        for case in SHOWN
        for operation in IN_PLACE
        # Dropout draws its numbers in the order of memory, which is not PyTorch's there.
        if (case, operation) != ("GRU batch_first", "dropout")
    ],
)
def test_outputs_are_changed_in_place(case, operation):
    """A program masks, activates or drops out the output in place, as PyTorch's GRU and RNN let it
    (CUNY-CL/yoyodyne#298). States may be changed, too."""
    kind, options = SHOWN[case]
    found = []
    for module in pair(kind, 5, 9, **options):
        x = torch.from_numpy(samples.normal(0, *((6, 5) if kind in CELLS else (6, 4, 5))))
        x.requires_grad_()
        results = flat(module(x))
        torch.manual_seed(0)
        for result in results:
            IN_PLACE[operation](result)
        sum(r.square().sum() + r.sum() for r in results).backward()
        found.append([*results, x.grad, *(p.grad for p in module.parameters())])
    for theirs, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["RNN", "GRU"])
@pytest.mark.parametrize("form", ["unbatched", "lengths", "packed"])
def test_outputs_of_other_forms_are_changed_in_place(kind, form):
    """An unbatched y is a view, that of a PackedSequence is a tensor of its own."""
    _, ours = pair(kind, 5, 9)
    x, _ = inputs(kind, ours)
    lengths, pack = [3, 7, 1, 7, 4], torch.nn.utils.rnn.pack_padded_sequence
    found = []
    for changes in (lambda y: y * 3, lambda y: y.mul_(3)):
        module = copy.deepcopy(ours)
        if form == "unbatched":
            y = module(x[:, 0])[0]
        elif form == "lengths":
            y = module(x, lengths=lengths)[0]
        else:
            y = module(pack(x, lengths, enforce_sorted=False))[0].data
        changes(y).square().sum().backward()
        found.append([p.grad for p in module.parameters()])
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


def test_a_plain_lstm_keeps_pytorchs_rule():
    """PyTorch's LSTM refuses a change of its output in place, by the same error."""
    for module in pair("LSTM", 5, 9):
        y, _ = module(torch.ones(6, 4, 5))
        y.mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()


ALL = {
    "LSTM": lambda: torch.nn.LSTM(5, 8, num_layers=2, bidirectional=True),
    "GRU": lambda: torch.nn.GRU(5, 8),
    "RNN": lambda: torch.nn.RNN(5, 8, nonlinearity="relu"),
    "LSTMCell": lambda: torch.nn.LSTMCell(5, 8),
    "GRUCell": lambda: torch.nn.GRUCell(5, 8),
    "RNNCell": lambda: torch.nn.RNNCell(5, 8),
    "MultiheadAttention": lambda: torch.nn.MultiheadAttention(8, 2),
}


class Plain(torch.nn.LSTM):
    """A user's class with a constructor of its own, as there are many."""

    def __init__(self, size=5):
        super().__init__(size, 8, batch_first=True)
        self.note = "a note"

    def extra_repr(self):
        return f"{super().extra_repr()}, {self.note}"


class First(torch.nn.GRU):
    """A user's class whose forward returns the output alone."""

    def forward(self, x):
        return super().forward(x)[0]


class Twice(First):
    def forward(self, x):
        return super().forward(x) * 2


class Unrelated(torch.nn.LSTM):
    """A user's class with steps of its own."""

    def forward(self, x):
        return x


class Checked(torch.nn.LSTM):
    """A user's class that replaces what PyTorch's forward calls."""

    def permute_hidden(self, hx, permutation):
        raise RuntimeError("no state may be given")


class Bare(torch.nn.MultiheadAttention):
    pass


def call(module):
    """Return the results of a call that all modules of this file take."""
    if isinstance(module, torch.nn.MultiheadAttention):
        x = torch.from_numpy(samples.normal(0, 6, 3, 8))
        return flat(module(x, x, x, need_weights=False))
    steps = (3, 5) if isinstance(module, torch.nn.RNNCellBase) else (6, 3, 5)
    return flat(module(torch.from_numpy(samples.normal(0, *steps))))


def assert_same(a, b):
    for one, other in zip(a, b, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kind", ALL)
def test_an_accelerated_module_is_what_it_was(kind):
    """Programs ask `isinstance(m, nn.LSTM)` to initialise weights and to tell (h, c) from h, and
    print `type(m).__name__` in their summaries."""
    module, theirs = ALL[kind](), getattr(torch.nn, kind)
    names, before = list(module.state_dict()), repr(module)
    treadle.torch.accelerate(module)
    assert isinstance(module, theirs)
    assert issubclass(type(module), theirs)
    assert isinstance(getattr(treadle.torch, kind), type)
    assert isinstance(module, getattr(treadle.torch, kind))
    assert type(module).__name__ == kind
    assert type(module).__qualname__ == kind
    assert repr(module) == before
    assert list(module.state_dict()) == names
    fresh = type(module)(5, 8) if kind != "MultiheadAttention" else type(module)(8, 2)
    assert isinstance(fresh, theirs)


def initialise(model):
    """Initialise as published programs do: orthogonal recurrent weights, a forget gate of one."""
    for module in model.modules():
        if isinstance(module, torch.nn.LSTM):
            for name, parameter in module.named_parameters():
                if "weight_hh" in name:
                    torch.nn.init.orthogonal_(parameter)
                elif "bias" in name:
                    torch.nn.init.zeros_(parameter)
                    parameter.data[module.hidden_size : 2 * module.hidden_size] = 1


def last(model, x):
    """Return the last cell state as a program does that tells modules apart."""
    _, state = model(x)
    return state[1] if isinstance(model, torch.nn.LSTM) else state


def test_programs_that_ask_for_the_class():
    found = []
    for accelerates in (False, True):
        torch.manual_seed(0)
        model = torch.nn.ModuleList([torch.nn.LSTM(5, 8), Plain(), torch.nn.GRU(5, 8)])
        if accelerates:
            treadle.torch.accelerate(model)
        initialise(model)
        found.append([last(m, torch.ones(4, 2, 5)) for m in model])
    assert found[0][0].shape == (1, 2, 8)
    assert_same(*found)


@pytest.mark.parametrize("kind", [Plain, First, Twice, Bare])
def test_subclasses_run_on_treadle_and_stay_themselves(kind):
    """A subclass keeps its name, its methods, its pickles and its forward, whose super().forward is
    treadle's."""
    module = kind(8, 2) if kind is Bare else kind() if kind is Plain else kind(5, 8)
    expected, before = call(module), repr(module)
    report = treadle.torch.accelerate(module)
    assert report.replaced == {"": kind.__name__}
    assert isinstance(module, kind)
    assert isinstance(module, tuple(treadle.torch.classes.CLASSES.values()))
    made = type(module)
    assert (made.__name__, made.__module__, made.__doc__) == (
        kind.__name__, kind.__module__, kind.__doc__,
    )  # fmt: skip
    assert repr(module) == before
    assert_same(call(module), expected)
    buffer = io.BytesIO()
    torch.save(module, buffer)
    buffer.seek(0)
    for other in (
        copy.deepcopy(module),
        copy.copy(module),
        pickle.loads(pickle.dumps(module)),
        pickle.loads(pickle.dumps(module, protocol=1)),
        torch.load(buffer, weights_only=False),
    ):
        assert type(other) is made
        assert_same(call(other), call(module))
    second = kind(8, 2) if kind is Bare else kind() if kind is Plain else kind(5, 8)
    treadle.torch.accelerate(second)
    assert type(second) is made
    assert treadle.torch.accelerate(module).replaced == {}
    treadle.torch.restore(module)
    assert type(module) is kind
    assert_same(call(module), expected)


def test_treadles_forward_runs_behind_super(monkeypatch):
    seen = []
    own = treadle.torch.modules._Sequence.forward
    monkeypatch.setattr(
        treadle.torch.modules._Sequence,
        "forward",
        lambda self, *a, **k: seen.append(type(self).__name__) or own(self, *a, **k),
    )
    for kind in (Plain, First, Twice):
        module = kind() if kind is Plain else kind(5, 8)
        treadle.torch.accelerate(module)
        call(module)
    assert seen == ["Plain", "First", "Twice"]


def test_subclasses_that_are_left():
    model = torch.nn.ModuleList([Unrelated(5, 8), Checked(5, 8)])
    report = treadle.torch.accelerate(model)
    assert report.replaced == {}
    assert "super().forward" in report.left["0"]
    assert "permute_hidden" in report.left["1"]
    assert [type(m) for m in model] == [Unrelated, Checked]


PARAMETRIZED = {
    "weight_norm": lambda m, n: parametrizations.weight_norm(m, n),
    "spectral_norm": lambda m, n: parametrizations.spectral_norm(m, n),
    "own": lambda m, n: parametrize.register_parametrization(m, n, Half()),
    "old weight_norm": lambda m, n: torch.nn.utils.weight_norm(m, n),
}


class Half(torch.nn.Module):
    def forward(self, weight):
        return weight / 2


def weight_of(module):
    for name in ("weight_hh_l0", "weight_hh", "in_proj_weight"):
        if name in dict(module.named_parameters()):
            return name
    raise AssertionError


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
@pytest.mark.parametrize("how", PARAMETRIZED)
@pytest.mark.parametrize("kind", [*ALL, "Plain"])
def test_parametrized_modules(kind, how):
    """Before or after accelerate, a parametrization does what it does in PyTorch; restore and
    from_torch take the module, and the parametrization can be taken away again."""
    torch.manual_seed(0)
    theirs = Plain() if kind == "Plain" else ALL[kind]()
    original = type(theirs)
    name = weight_of(theirs)
    after, before = copy.deepcopy(theirs), copy.deepcopy(theirs)
    for module in (theirs, before):
        torch.manual_seed(1)
        PARAMETRIZED[how](module, name)
    kinds = type(theirs).__name__
    assert treadle.torch.accelerate(after).replaced == {"": original.__name__}
    torch.manual_seed(1)
    PARAMETRIZED[how](after, name)
    assert treadle.torch.accelerate(before).replaced == {"": kinds}
    for module in (theirs, before, after):
        module.eval()
    expected = call(theirs)
    for module in (before, after):
        assert type(module).__name__ == kinds
        assert isinstance(module, original)
        assert isinstance(module, tuple(treadle.torch.classes.CLASSES.values()))
        assert_same(call(module), expected)
        assert_same(call(copy.deepcopy(module)), expected) if "old" not in how else None
        ours = treadle.from_torch(module)
        assert type(ours) is type(treadle.from_torch(theirs))
        for key, array in treadle.from_torch(theirs).state_dict().items():
            assert (ours.state_dict()[key] == array).all()
        treadle.torch.restore(module)
        assert not isinstance(module, tuple(treadle.torch.classes.CLASSES.values()))
        assert type(module).__name__ == kinds
        assert_same(call(module), expected)
        assert treadle.torch.accelerate(module).replaced == {"": kinds}
        if "old" not in how:
            parametrize.remove_parametrizations(module, name)
            assert type(module).__name__ == original.__name__
            assert isinstance(module, original)
            assert_same(call(module), expected)
            treadle.torch.restore(module)
            assert type(module) is original


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell"])
def test_from_torch_takes_subclasses_that_add_nothing(kind):
    """So do subclasses of treadle's own modules."""
    for base in (getattr(torch.nn, kind), getattr(treadle.torch, kind)):
        made = type("Mine", (base,), {"greeting": "hello"})(5, 8)
        assert type(treadle.from_torch(made)).__name__ == kind
    own = type("Mine", (base,), {"forward": lambda self, x: x})(5, 8)
    with pytest.raises(TypeError, match="forward of its own"):
        treadle.from_torch(own)


def test_from_torch_takes_an_accelerated_encoder():
    layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    encoder = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    expected = treadle.from_torch(encoder).state_dict()
    treadle.torch.accelerate(encoder)
    parametrizations.weight_norm(encoder.layers[0].linear1, "weight")
    parametrize.register_parametrization(encoder.layers[1].self_attn, "in_proj_weight", Half())
    found = treadle.from_torch(encoder).state_dict()
    assert list(found) == list(expected)


@pytest.mark.parametrize("how", ["_parameters", "_flat_weights", "setattr"])
def test_weight_drop(how):
    """A weight drop puts another tensor where a parameter was, for one call (fastai/fastai#2591,
    pytorch/pytorch#32346)."""
    found = []
    for module in pair("LSTM", 5, 9):
        raw = module.weight_hh_l0
        torch.manual_seed(3)
        dropped = torch.nn.functional.dropout(raw, 0.5)
        if how == "_parameters":
            module._parameters["weight_hh_l0"] = dropped
        elif how == "_flat_weights":
            module._flat_weights[1] = dropped
        else:
            del module._parameters["weight_hh_l0"]
            module.weight_hh_l0_raw = raw
            module.weight_hh_l0 = dropped
        y, _ = module(torch.ones(4, 2, 5))
        y.square().sum().backward()
        found.append([y, raw.grad])
    assert_same(*found)


def test_other_programs():
    """flatten_parameters, _apply, weight sharing and functional calls are PyTorch's own."""
    for module in pair("GRU", 5, 9, num_layers=2):
        module.flatten_parameters()
        assert all(a is b for a, b in zip(module._flat_weights, module.parameters(), strict=True))
        assert module.all_weights[0][0] is module.weight_ih_l0
        module.double().float()
        assert module._flat_weights[0] is module.weight_ih_l0
        module.weight_hh_l1 = module.weight_hh_l0
    found = []
    for module in pair("GRU", 5, 9):
        other = {name: p * 2 for name, p in module.named_parameters()}
        x = torch.ones(4, 2, 5)
        found.append([torch.func.functional_call(module, other, (x,))[0], module(x)[0]])
    assert_same(*found)

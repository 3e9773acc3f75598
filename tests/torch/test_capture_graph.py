"""`treadle.torch.capture` as graphs: names, axes, weights, what stays whole, what is refused."""

import dataclasses
import threading
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn
from torch.nn.utils import rnn

import treadle.torch
from treadle.torch.capture_module import captured


class Recurrent(nn.Module):
    """A tagger: both directions of an LSTM over packed sequences."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.lstm = nn.LSTM(8, 5, num_layers=2, bidirectional=True, batch_first=True, dropout=0.3)
        self.head = nn.Linear(10, 3)

    def forward(self, tokens, lengths):
        x = rnn.pack_padded_sequence(
            self.embedding(tokens), lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        y, (h, _) = self.lstm(x)
        y, sizes = rnn.pad_packed_sequence(y, batch_first=True)
        return {"tags": self.head(y), "last": h[-1], "sizes": sizes}


class Function(nn.Module):
    def __init__(self, run):
        super().__init__()
        self.run = run

    def forward(self, x):
        return self.run(x)


def ops(graph):
    return [node.op for node in graph.nodes]


def shapes(values):
    return {value.name: value.shape for value in values}


def test_recurrent_layers_stay_whole_with_their_lengths():
    module = Recurrent()
    graph = captured(module, (torch.zeros(1, 6, dtype=torch.long), torch.tensor([4])))
    (node,) = [node for node in graph.nodes if node.op == "treadle.Recurrent"]
    assert node.name == "lstm"
    assert node.inputs[1:4] == ["", "", "lengths"]
    assert node.attributes["num_layers"] == 2
    assert node.attributes["direction"] == "bidirectional"
    names = node.attributes["weights"]
    assert names[:5] == [
        "0.weight_ih", "0.weight_hh", "0.bias_ih", "0.bias_hh", "0.reverse.weight_ih"
    ]  # fmt: skip
    for name, value in zip(names, node.inputs[4:], strict=True):
        layer, _, part = name.partition(".")
        end = "_reverse" if part.startswith("reverse.") else ""
        own = getattr(module.lstm, f"{part.removeprefix('reverse.')}_l{layer}{end}")
        np.testing.assert_array_equal(graph.constants[value], own.detach().numpy())
    assert shapes(graph.inputs) == {"tokens": ("batch", "tokens_1"), "lengths": ("batch",)}
    assert [value.name for value in graph.outputs] == ["tags", "last", "sizes"]
    assert shapes(graph.outputs)["last"] == ("batch", 5)


def test_the_module_stays_as_it_is():
    module = Recurrent()
    module.head.eval()
    calls = []
    module.head.register_forward_hook(lambda *_: calls.append(1))
    modes = [part.training for part in module.modules()]
    state = {name: (p.data_ptr(), p.clone()) for name, p in module.state_dict().items()}
    codes = rnn.pack_padded_sequence.__code__, rnn.pad_packed_sequence.__code__
    forward, truth = nn.LSTM.forward, torch.SymBool.__bool__
    captured(module, (torch.zeros(2, 6, dtype=torch.long), torch.tensor([4, 6])))
    assert calls, "hooks are part of what a module computes"
    assert [part.training for part in module.modules()] == modes
    assert (rnn.pack_padded_sequence.__code__, rnn.pad_packed_sequence.__code__) == codes
    assert (nn.LSTM.forward, torch.SymBool.__bool__) == (forward, truth)
    assert torch.backends.mha.get_fastpath_enabled()
    for name, value in module.state_dict().items():
        assert value.data_ptr() == state[name][0]
        assert torch.equal(value, state[name][1])


def test_other_threads_pack_as_ever_meanwhile():
    found = []

    def elsewhere():
        x = rnn.pack_padded_sequence(torch.ones(3, 2, 1), torch.tensor([3, 1]))
        found.append(rnn.pad_packed_sequence(x)[0].shape)
        found.append(nn.LSTM(1, 2)(x)[0].data.shape)

    class Module(nn.Module):
        def forward(self, x):
            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()
            return x * 2

    captured(Module(), torch.zeros(3, 2), dynamic=False)
    assert found == [(3, 2, 1), (4, 2)]


def test_accelerated_modules_are_those_of_pytorch():
    plain, fast = Recurrent(), Recurrent()
    treadle.torch.accelerate(fast)
    examples = torch.zeros(2, 6, dtype=torch.long), torch.tensor([4, 6])
    assert ops(captured(plain, examples)) == ops(captured(fast, examples))


def test_states_are_inputs_and_zeros_are_none():
    class Step(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(4, 5)

        def forward(self, x, state):
            y, state = self.lstm(x, state)
            start = torch.zeros(1, x.shape[1], 5)
            return y + self.lstm(x, (start, start))[0], state

    example = torch.zeros(1, 1, 4), (torch.zeros(1, 1, 5), torch.zeros(1, 1, 5))
    graph = captured(Step(), example, output_names=["y", "h", "c"])
    first, second = [node for node in graph.nodes if node.op == "treadle.Recurrent"]
    assert first.inputs[:3] == ["x", "state_0", "state_1"]
    assert second.inputs[1:3] == ["", ""]
    assert [value.name for value in graph.outputs] == ["y", "h", "c"]
    assert shapes(graph.inputs)["state_1"][1] == shapes(graph.inputs)["x"][1] == "batch"


@dataclasses.dataclass
class Result:
    logits: torch.Tensor
    state: tuple
    nothing: None = None


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda x: x + 1, ["output"]),
        (lambda x: (x + 1, [x - 1, x * 2]), ["output", "output_1", "output_2"]),
        (lambda x: {"a": x + 1, "x": x - 1, "b": (x, None)}, ["a", "x_out", "b_0"]),
        (lambda x: Result(x + 1, (x, x)), ["logits", "state_0", "state_1"]),
    ],
)
def test_names_of_outputs(make, names):
    graph = captured(Function(make), torch.zeros(2, 3))
    assert [value.name for value in graph.outputs] == names
    made = {name for node in graph.nodes for name in node.outputs}
    assert set(names) <= made


def test_named_axes():
    class Two(nn.Module):
        def forward(self, x, *, mask, scale=2.0):
            return (x * mask.unsqueeze(-1) * scale).mean(1)

    example = {"x": torch.zeros(1, 1, 3), "mask": torch.zeros(1, 1), "scale": 3.0}
    axes = {0: "rows", 1: "steps"}
    graph = captured(Two(), example, dynamic={"x": axes, "mask": axes})
    assert shapes(graph.inputs) == {"x": ("rows", "steps", 3), "mask": ("rows", "steps")}
    assert shapes(graph.outputs) == {"output": ("rows", 3)}
    fixed = captured(Two(), example, dynamic=False)
    assert shapes(fixed.inputs) == {"x": (1, 1, 3), "mask": (1, 1)}
    half = captured(Two(), example, dynamic={"x": (0,), "mask": (0,)})
    assert shapes(half.inputs) == {"x": ("batch", 1, 3), "mask": ("batch", 1)}


@pytest.mark.parametrize(
    ("dynamic", "error", "message"),
    [
        ({"z": (0,)}, ValueError, "names 'z', which is no input; the inputs are input"),
        ({"x": (2,)}, ValueError, "names axis 2"),
        ({"x": {0: 3}}, TypeError, "is 3, expected a name or True"),
        ({"x": "batch"}, TypeError, "is str, expected"),
        ("x", TypeError, "dynamic is str"),
        ({"x": {1: "features"}}, ValueError, "axis 1 of input .'features'. shall have any size"),
    ],
)
def test_axes_that_cannot_be(dynamic, error, message):
    with pytest.raises(error, match=message):
        captured(nn.Linear(3, 2), torch.zeros(2, 3), dynamic=_renamed(dynamic))


def _renamed(dynamic):
    """nn.Linear calls its input ``input``."""
    if isinstance(dynamic, dict):
        return {"input" if name == "x" else name: axes for name, axes in dynamic.items()}
    return dynamic


def test_weights_are_copies_and_shared_ones_are_one():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(7, 4)
            self.head = nn.Linear(4, 7, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, tokens):
            return self.head(self.embedding(tokens))

    module = Tied()
    graph = captured(module, torch.zeros(2, dtype=torch.long))
    weights = [name for name, array in graph.constants.items() if array.shape == (7, 4)]
    assert len(weights) == 1
    before = graph.constants[weights[0]].copy()
    with torch.no_grad():
        module.head.weight.zero_()
    np.testing.assert_array_equal(graph.constants[weights[0]], before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_is_widened(dtype):
    module = nn.Linear(4, 3).to(dtype)
    graph = captured(module, torch.zeros(2, 4, dtype=dtype))
    assert {value.dtype for value in (*graph.inputs, *graph.outputs)} == {"float32"}
    np.testing.assert_array_equal(graph.constants["weight"], module.weight.detach().float().numpy())


class Changing(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("state", torch.zeros(3))

    def forward(self, x):
        self.state += x.sum(0)
        return self.state * x


def _choose(x):
    if x.sum() > 0:
        return x
    return -x


def _packed(x):
    return rnn.pack_padded_sequence(x, torch.tensor([2, 1])).data


@pytest.mark.parametrize(
    ("module", "example", "error", "message"),
    [
        (Function(torch.linalg.qr), torch.zeros(3, 3), NotImplementedError,
         r"aten.linalg_qr.default cannot be captured.*\n.*return self.run\(x\)"),
        (Function(_choose), torch.zeros(3, 3), ValueError,
         r"depends on the numbers in a tensor.*test_capture_graph.py:\d+ in _choose: if x.sum"),
        (Changing(), torch.zeros(2, 3), NotImplementedError, "forward changes state"),
        (Function(lambda x: x.add_(1)), torch.zeros(2, 3), NotImplementedError,
         "changes its input"),
        (Function(_packed), torch.zeros(2, 2, 1), NotImplementedError, "inside a PackedSequence"),
        (nn.Linear(3, 2).double(), torch.zeros(2, 3, dtype=torch.float64), ValueError, "float64"),
        (nn.Linear(3, 2).double(), torch.zeros(2, 3), ValueError, "float64|dtype"),
        (nn.BatchNorm1d(3, track_running_stats=False), torch.zeros(2, 3), NotImplementedError,
         "mix the rows"),
        (Function(lambda x: x[x > 0]), torch.zeros(3), NotImplementedError, "torch.where"),
        (Function(lambda x: "text"), torch.zeros(3), TypeError, "forward returns str"),
        (Function(lambda x: None), torch.zeros(3), ValueError, "returns no tensor"),
        (Function(lambda x: x), (torch.zeros(3), 2), TypeError, "do not fit forward"),
        (Function(lambda x: x), 3, ValueError, "have no tensor"),
        (Function(lambda x: x), object(), TypeError, "is of type object"),
        (torch.relu, torch.zeros(3), TypeError, "expected torch.nn.Module"),
        (nn.Linear(3, 2), torch.zeros(2, 4), ValueError, "torch.export cannot record"),
    ],
)  # fmt: skip
def test_refusals(module, example, error, message):
    with pytest.raises(error, match=message) as caught:
        treadle.torch.capture(module, example)
    assert str(caught.value).startswith("treadle.torch.capture: ")


@pytest.mark.parametrize("names", [["a", "b"], ["x"], [""]])
def test_output_names_that_do_not_fit(names):
    with pytest.raises(ValueError, match="output_names has"):
        captured(Function(lambda x: x + 1), torch.zeros(3), output_names=names)


def test_scripted_modules_are_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch calls its own function old
        scripted = torch.jit.script(nn.Linear(3, 2))
    with pytest.raises(TypeError, match="ScriptModule"):
        treadle.torch.capture(scripted, torch.zeros(2, 3))


def test_a_size_that_the_source_looks_at_is_required():
    def run(x):
        if x.shape[0] == 1:
            return x * 3
        return x * 2 if x.shape[1] > 4 and x.shape[1] % 2 == 0 else x

    graph = captured(Function(run), torch.zeros(2, 6))
    messages = [n.attributes["message"] for n in graph.nodes if n.op == "treadle.Require"]
    assert len(messages) == 3
    assert all("test_capture_graph.py:" in message for message in messages)
    model = treadle.torch.capture(Function(run), torch.zeros(2, 6))
    x = np.ones((3, 8), np.float32)
    np.testing.assert_array_equal(model(x), x * 2)
    for shape in ((1, 6), (3, 4), (2, 7)):
        with pytest.raises(ValueError, match=r"take another way at test_capture_graph\.py"):
            model(np.ones(shape, np.float32))

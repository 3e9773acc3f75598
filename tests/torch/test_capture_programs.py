"""Whole programs that people train: captured, run with other sizes, saved and loaded elsewhere."""

import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import treadle.torch
from support.captured import assert_same, integers
from treadle.graph.model import Model
from treadle.torch.capture_module import captured


class CharacterModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(96, 16)
        self.lstm = nn.LSTM(16, 24, num_layers=2)
        self.head = nn.Linear(24, 96)

    def forward(self, token, h, c):
        y, (h, c) = self.lstm(self.embedding(token).unsqueeze(0), (h, c))
        return self.head(y[0]), h, c


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(50, 12)
        self.lstm = nn.LSTM(12, 9, bidirectional=True, batch_first=True)
        self.head = nn.Linear(18, 7)

    def forward(self, tokens, lengths):
        x = pack_padded_sequence(
            self.embedding(tokens), lengths, batch_first=True, enforce_sorted=False
        )
        y, _ = pad_packed_sequence(self.lstm(x)[0], batch_first=True)
        return self.head(y).log_softmax(-1)


class Forecaster(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(3, 14, batch_first=True)
        self.head = nn.Sequential(nn.Linear(14, 10), nn.ReLU(), nn.Dropout(0.2), nn.Linear(10, 4))

    def forward(self, x):
        return self.head(self.gru(x)[1][-1])


class Recogniser(nn.Module):
    """A CRNN: convolutions over an image, a bidirectional LSTM over its columns."""

    def __init__(self):
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d((2, 1)),
        )  # fmt: skip
        self.lstm = nn.LSTM(12 * 4, 10, bidirectional=True, batch_first=True)
        self.head = nn.Linear(20, 11)

    def forward(self, x):
        x = self.convolutions(x)
        x = x.permute(0, 3, 1, 2).flatten(2)
        return self.head(self.lstm(x)[0])


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(40, 16)
        layer = nn.TransformerEncoderLayer(16, 4, 24, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 3)

    def forward(self, tokens):
        padding = tokens == 0
        y = self.encoder(self.embedding(tokens), src_key_padding_mask=padding)
        kept = (~padding).unsqueeze(-1).float()
        return self.head((y * kept).sum(1) / kept.sum(1).clamp(min=1))


class Block(nn.Module):
    """A residual block, then one with a depthwise convolution."""

    def __init__(self):
        super().__init__()
        self.first, self.second = (nn.Conv2d(8, 8, 3, padding=1, bias=False) for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm2d(8) for _ in range(2))
        self.wide = nn.Conv2d(8, 16, 1)
        self.deep = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        y = F.relu(self.norms[0](self.first(x)))
        x = F.relu(x + self.norms[1](self.second(y)))
        x = F.hardswish(self.deep(F.relu6(self.wide(x))))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Patches(nn.Module):
    """A small vision transformer."""

    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, 16) * 0.1)
        self.places = nn.Parameter(torch.randn(1, 5, 16) * 0.1)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 6)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.places
        y = self.norm(x)
        x = x + self.attention(y, y, y)[0]
        return self.head(self.norm(x)[:, 0])


class Causal(nn.Module):
    """A temporal convolutional network."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv1d(6, 6, 3, dilation=d) for d in (1, 2, 4))

    def forward(self, x):
        for layer in self.layers:
            left = (layer.kernel_size[0] - 1) * layer.dilation[0]
            x = x + F.gelu(layer(F.pad(x, (left, 0))))
        return x


class Encoder(nn.Module):
    """The encoder and one step of an attending decoder of a translator."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(30, 10)
        self.encoder = nn.GRU(10, 8, bidirectional=True, batch_first=True)
        self.cell = nn.GRUCell(10 + 16, 16)
        self.query = nn.Linear(16, 16, bias=False)

    def forward(self, source, token, state):
        keys, _ = self.encoder(self.embedding(source))
        scores = torch.einsum("bh,bth->bt", self.query(state), keys)
        context = torch.bmm(scores.softmax(-1).unsqueeze(1), keys).squeeze(1)
        state = self.cell(torch.cat([self.embedding(token), context], -1), state)
        return {"new_state": state, "attention": scores}


_TOKENS = integers(1, 30, "B", "T")
PROGRAMS = {
    "character model": (
        CharacterModel,
        {"token": integers(0, 96, "B"), "h": (2, "B", 24), "c": (2, "B", 24)},
    ),
    "tagger": (Tagger, {"tokens": _TOKENS, "lengths": integers(1, 4, "B")}),
    "forecaster": (Forecaster, {"x": ("B", "T", 3)}),
    "recogniser": (Recogniser, {"x": ("B", 1, 16, "W")}),
    "classifier": (Classifier, {"tokens": integers(0, 3, "B", "T")}),
    "block": (Block, {"x": ("B", 8, "T", "W")}),
    "patches": (Patches, {"x": ("B", 3, 8, 8)}),
    "causal": (Causal, {"x": ("B", 6, "T")}),
    "encoder": (Encoder, {"source": _TOKENS, "token": integers(0, 30, "B"), "state": ("B", 16)}),
}


def _inputs(shapes, seed, B, T):
    generator = torch.Generator().manual_seed(seed)
    sizes = {"B": B, "T": T, "W": 4 * T}
    return {
        name: shape(B, T, generator)
        if callable(shape)
        else torch.randn([sizes.get(size, size) for size in shape], generator=generator)
        for name, shape in shapes.items()
    }


def _program(name):
    torch.manual_seed(len(name))
    make, shapes = PROGRAMS[name]
    module = make()
    for part in module.modules():  # statistics as after some training
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    return module, shapes


@pytest.fixture(scope="module", params=PROGRAMS)
def program(request):
    module, shapes = _program(request.param)
    # A batch of one row, as people try it: other sizes must work all the same.
    graph = captured(module, _inputs(shapes, 0, 1, 5))
    return module.eval(), graph, shapes


@pytest.mark.parametrize(("B", "T"), [(1, 5), (3, 5), (4, 8)])
def test_programs(program, B, T):
    module, graph, shapes = program
    assert_same(Model(graph, single=True), module, _inputs(shapes, 1, B, T))


def test_rows_have_the_same_bits_in_any_batch(program, isa):
    _, graph, shapes = program
    model = Model(graph, single=True)
    inputs = _inputs(shapes, 2, 3, 5)
    if "lengths" in inputs:
        inputs["lengths"] = torch.full((3,), 5)
    axes = {name: 1 if name in ("h", "c") else 0 for name in inputs}
    alone = {name: tensor.narrow(axes[name], 1, 1).numpy() for name, tensor in inputs.items()}
    found = model(**{name: tensor.numpy() for name, tensor in inputs.items()})
    single = model(**alone)
    for name in [value.name for value in model.outputs]:
        whole = found[name] if isinstance(found, dict) else found
        one = single[name] if isinstance(single, dict) else single
        axis = 1 if whole.shape[0] == 2 else 0  # the states [L, B, H] of two layers
        np.testing.assert_array_equal(whole.take([1], axis), one)


def test_a_saved_model_needs_no_torch(tmp_path):
    module, shapes = _program("tagger")
    model = treadle.torch.capture(module, _inputs(shapes, 0, 1, 5))
    inputs = {name: tensor.numpy() for name, tensor in _inputs(shapes, 1, 3, 6).items()}
    model.save(tmp_path / "tagger.treadle")
    np.savez(tmp_path / "case.npz", expected=model(**inputs), **inputs)
    script = """
import sys
sys.modules["torch"] = None
import numpy as np, treadle
case = dict(np.load("case.npz"))
expected = case.pop("expected")
model = treadle.load("tagger.treadle")
np.testing.assert_array_equal(model(**case), expected)
print(model.signature)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("(tokens: int64 [batch, tokens_1], lengths: int64 [batch])")


def test_a_row_that_is_longest_sets_the_size():
    module, shapes = _program("tagger")
    model = treadle.torch.capture(module, _inputs(shapes, 0, 1, 5))
    inputs = _inputs(shapes, 3, 3, 9)
    inputs["lengths"] = torch.tensor([2, 6, 1])
    assert_same(model, module.eval(), inputs)


class Chain(nn.Module):
    """Steps that keep [B, T, 6]."""

    def __init__(self, steps):
        super().__init__()
        made = {
            "linear": nn.Linear(6, 6),
            "norm": nn.LayerNorm(6),
            "lstm": nn.LSTM(6, 6, batch_first=True),
            "gru": nn.GRU(6, 3, batch_first=True, bidirectional=True),
            "conv": nn.Conv1d(6, 6, 3, padding=1),
            "attention": nn.MultiheadAttention(6, 2, batch_first=True),
        }
        self.steps, self.parts = steps, nn.ModuleDict({s: made[s] for s in steps if s in made})

    def forward(self, x):
        start = x
        for step in self.steps:
            part = self.parts[step] if step in self.parts else _PLAIN[step]
            if step in ("linear", "norm"):
                x = part(x)
            elif step in ("lstm", "gru"):
                x = part(x)[0]
            elif step == "conv":
                x = part(x.mT).mT
            elif step == "attention":
                x = part(x, x, x, need_weights=False)[0]
            else:
                x = part(x, start)
        return x


_PLAIN = {
    "relu": lambda x, _: torch.relu(x),
    "tanh": lambda x, _: torch.tanh(x),
    "add": lambda x, start: x + start,
    "gate": lambda x, start: x * torch.sigmoid(start),
    "flip": lambda x, _: x.flip(1),
    "shift": lambda x, _: F.pad(x[:, 1:], (0, 0, 0, 1)),
    "mean": lambda x, _: x - x.mean(1, keepdim=True),
    "softmax": lambda x, _: x.softmax(1) * x.shape[1],
    "halves": lambda x, _: torch.cat(x.chunk(2, -1)[::-1], -1),
    "fold": lambda x, _: x.reshape(x.shape[0], -1, 3).repeat_interleave(1, 1).reshape(x.shape),
    "choose": lambda x, start: torch.where(start > 0, x, -x),
}
_STEPS = ["linear", "norm", "lstm", "gru", "conv", "attention", *_PLAIN]


@settings(max_examples=5)
@given(steps=st.lists(st.sampled_from(_STEPS), min_size=1, max_size=6), B=st.integers(1, 3))
def test_random_programs(steps, B):
    torch.manual_seed(0)
    module = Chain(steps)
    model = treadle.torch.capture(module, torch.zeros(1, 4, 6))
    for T in (4, 7):
        assert_same(model, module.eval(), {"x": torch.randn(B, T, 6)})

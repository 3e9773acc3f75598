"""The benchmark's training cases: float64 gradients, peers, limits by hand, targets, a run."""

import dataclasses
import json

import numpy as np
import pytest
import torch

import treadle.torch.weight_cache
from treadle.benchmarks import report
from treadle.benchmarks.core import peers
from treadle.benchmarks.core.errors import Exact
from treadle.benchmarks.core.limits import FMA, Limit, Rates
from treadle.benchmarks.core.models.recurrent import work as limits
from treadle.benchmarks.core.models.recurrent.case import NetCase as Case
from treadle.benchmarks.core.models.recurrent.data import state_dict
from treadle.benchmarks.kinds import training
from treadle.benchmarks.kinds.training import attention, memory, overhead, recurrent, targets
from treadle.benchmarks.kinds.training.cases import AttentionTrainingCase, TrainingCase
from treadle.benchmarks.kinds.training.peers import autograd
from treadle.benchmarks.kinds.training.reference import worst_error
from treadle.benchmarks.run import main

CASES = training.grid()
NETS = [case for case in CASES if isinstance(case, TrainingCase)]


def tiny(cell, **more):
    return TrainingCase(cell, "train", 4, 3, 5, 7, "tiny", **more)


TINY = [
    *(tiny(cell) for cell in ("rnn", "lstm", "gru")),
    *(tiny(cell, L=2, D=2) for cell in ("rnn", "lstm", "gru")),
    *(tiny(cell, lengths=(2, 4, 1)) for cell in ("rnn", "lstm", "gru")),
    tiny("lstm", L=2, D=2, lengths=(2, 4, 1)),
]
ATTENTION = [
    AttentionTrainingCase("train-attention", 2, 3, 9, 9, 8, "tiny"),
    AttentionTrainingCase("train-attention", 1, 1, 9, 9, 8, "tiny", causal=True),
]
WAYS = [
    (name, case, variant)
    for name in ("treadle", "torch")
    for case in (*TINY, *ATTENTION)
    for variant in training.peer(name).variants(case, 1)
]


def test_every_case_is_a_net_or_attention():
    for case in CASES:
        assert case.kind == "training"
        if case not in NETS:
            assert isinstance(case, AttentionTrainingCase)
            assert case.group == targets.ATTENTION
            assert case.S == case.K >= 128
            assert case.kv_heads == case.N
            assert not case.lengths


@pytest.mark.parametrize("case", NETS, ids=lambda case: case.name)
def test_net_is_well_formed(case):
    assert case.T > 1
    assert case.P == 0
    assert bool(case.lengths) == (case.group == "train-ragged")
    if case.lengths:
        assert len(case.lengths) == case.B
        assert max(case.lengths) == case.T
        assert min(case.lengths) >= 1


def test_grid_has_the_shapes_of_the_goal():
    shapes = {(c.cell, c.T, c.B, c.I, c.H) for c in NETS if not c.lengths}
    assert shapes >= {
        ("lstm", 100, 32, 64, 128),
        ("lstm", 50, 32, 256, 256),
        ("lstm", 25, 64, 512, 512),
        ("lstm", 100, 1, 64, 128),
        ("gru", 100, 32, 64, 128),
        ("gru", 50, 32, 256, 256),
        ("rnn", 50, 32, 256, 256),
    }
    ragged = {(c.cell, c.T, c.B, c.I, c.H) for c in NETS if c.lengths}
    assert ragged >= {("lstm", 200, 32, 64, 128), ("gru", 200, 32, 64, 128)}


NOTHING = Limit({}, 0.0, 0.0)


def test_limit():
    case = tiny("lstm", lengths=(2, 4, 1))
    forward = Case("lstm", "batch", 4, 3, 5, 7, "the same", lengths=(2, 4, 1))
    work = 2 * 4 * 7 * (5 + 7) * (2 + 4 + 1)  # a multiplication and an addition per weight and row
    assert limits.flops(forward) == work
    assert training.flops(case) == 3 * work
    assert training.limit(case, Rates(1000, lambda _: 1e9)).seconds == pytest.approx(
        3 * work / 1000
    )
    reading = 4 * 4 * 7 * (5 + 4 * 7)  # bytes: the input weights once, the others at every step
    assert training.bytes_read(case) == 2 * reading
    both = training.limit(case, Rates(1e12, lambda _: 100)).seconds
    assert both == pytest.approx(2 * reading / 100)
    assert training.limit(case, Rates(1e12, lambda _: 100)).bound_by == 4 * 4 * 7 * 7
    assert training.limit(case, Rates(1000, lambda _: 1e9)).bound_by == FMA


def test_limit_of_attention():
    case = AttentionTrainingCase("train-attention", 2, 3, 20, 20, 5, "by hand", causal=True)
    work = 6 * 2 * 5 * 3 * 2 * 20 * 21 // 2  # six products over the pairs of six triangles
    assert training.flops(case) == work
    assert training.limit(case, Rates(1000, lambda _: 1)).seconds == pytest.approx(work / 1000)
    assert training.limit(case, Rates(1000, lambda _: 1)).bound_by == FMA
    assert training.buffer_sizes(case) == []
    assert training.target(case, NOTHING, Rates(1e11, float)) is None


def test_target():
    case = TrainingCase("gru", "train", 50, 32, 256, 256, "")
    assert training.target(case, NOTHING, Rates(1e11, float)).allowed == pytest.approx(
        training.flops(case) / 0.8e11
    )
    for other in ({"B": 16}, {"H": 128}, {"lengths": (50,) * 32}):
        assert (
            training.target(dataclasses.replace(case, **other), NOTHING, Rates(1e11, float)) is None
        )


@pytest.mark.parametrize("case", TINY, ids=lambda case: f"{case.name}-{len(case.lengths)}")
def test_reference_is_torchs_float64(case):
    (weights, x), dy = training.arguments(case)
    kind = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[case.cell]
    module = kind(case.I, case.H, case.L, bidirectional=case.D == 2, dtype=torch.float64)
    named = state_dict(case, weights)
    module.load_state_dict({name: torch.from_numpy(value) for name, value in named.items()})
    leaf = torch.from_numpy(x).double().requires_grad_()
    given = leaf
    if case.lengths:
        pack = torch.nn.utils.rnn.pack_padded_sequence
        given = pack(leaf, torch.tensor(case.lengths), enforce_sorted=False)
    y, _ = module(given)
    if case.lengths:
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y)
    y.backward(torch.from_numpy(dy).double())
    right = {name: value.grad.numpy() for name, value in module.named_parameters()}
    right["x"] = leaf.grad.numpy()
    found = recurrent.gradients(case, (weights, x), dy, Exact())
    assert found.keys() == right.keys()
    assert worst_error(right, found) < 1e-13


@pytest.mark.parametrize("case", ATTENTION, ids=lambda case: case.name)
def test_reference_of_attention_is_torchs_float64(case):
    inputs, dy = training.arguments(case)
    leaves = [torch.from_numpy(part).double().requires_grad_() for part in inputs]
    y = torch.nn.functional.scaled_dot_product_attention(*leaves, is_causal=case.causal)
    y.backward(torch.from_numpy(dy).double())
    at = attention.picked(case)
    right = {name: leaf.grad.numpy()[at] for name, leaf in zip("qkv", leaves, strict=True)}
    assert right["q"].shape == (min(attention.HEADS, case.B * case.N), case.S, case.E)
    assert worst_error(right, attention.gradients(case, inputs, dy, Exact())) < 1e-13


@pytest.mark.parametrize(
    ("name", "case", "variant"),
    WAYS,
    ids=[f"{n}-{c.name}-{len(c.lengths)}-{v}" for n, c, v in WAYS],
)
def test_peers_agree_with_the_reference(name, case, variant):
    given = training.arguments(case)
    want = training.expected(case, given)
    assert want.tolerance < 1e-4
    with torch.inference_mode():  # as PyTorch runs the other kinds
        prepared = training.peer(name).prepare(case, given, 1, variant)
        for _ in range(2):  # the gradients of one call, not of all
            got = training.answer(case, prepared)
            assert training.error(want, got, prepared) <= want.tolerance


def test_a_wrong_gradient_is_found():
    case = TINY[1]
    given = training.arguments(case)
    want = training.expected(case, given)
    right = want.gradients
    assert worst_error(right, right) == 0
    assert set(right) == {"x", "weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"}
    for name, value in right.items():
        off = value.copy()
        off.flat[-1] += 2 * want.tolerance * np.abs(value).max()
        assert worst_error(right, right | {name: off}) > want.tolerance
        off.flat[-1] = np.nan
        assert worst_error(right, right | {name: off}) == np.inf
        assert worst_error(right, right | {name: value[..., :-1]}) == np.inf
        assert worst_error(right, {n: v for n, v in right.items() if n != name}) == np.inf


def test_packed_variants_are_tried_where_they_are_right():
    peer = training.peer("torch")
    ragged = tiny("lstm", lengths=(2, 4, 1))
    assert set(peer.variants(ragged, 1)) == {*peer.PACKED, "padded"}
    assert set(peer.variants(dataclasses.replace(ragged, D=2), 1)) == set(peer.PACKED)


def test_treadle_packs_the_weights_in_every_call(monkeypatch):
    packed = []
    pack = treadle.torch.weight_cache.PackedLayer.__init__

    def counted(self, layer, *arguments):
        packed.append(layer.input_size)
        pack(self, layer, *arguments)

    monkeypatch.setattr(treadle.torch.weight_cache.PackedLayer, "__init__", counted)
    case = dataclasses.replace(tiny("gru", L=2), T=9)  # a shorter call would read weights unpacked
    prepared = training.peer("treadle").prepare(case, training.arguments(case), 1, "treadle.torch")
    for _ in range(3):
        prepared.run()
    assert packed == [5, 7] * 3


def test_step_moves_weights_back_and_forth():
    module = torch.nn.LSTM(5, 7, num_layers=2)
    before = {name: value.detach().clone() for name, value in module.named_parameters()}
    step = autograd.Step(module)
    for moved in (True, False, True):
        step()
        for name, value in module.named_parameters():
            difference = (value.detach() - before[name]).abs().flatten()
            assert bool(difference[0] > 0) == (moved and "weight_ih" in name)
            assert difference[0] <= 2**-23
            assert difference[1:].max() == 0


def test_missing_says_what_to_install(monkeypatch):
    assert training.missing() == ""
    monkeypatch.setattr(training.importlib.util, "find_spec", lambda name: None)
    assert training.missing() == "no torch: pip install treadle[torch]"
    assert list(targets.run({"cases": []}, "float32")) == []


@pytest.fixture
def no_inference_mode(monkeypatch):
    """The targets load PyTorch as the runs do, which enters inference mode for good."""
    monkeypatch.setattr(peers, "start", lambda name, threads: None)


def test_ragged_targets(no_inference_mode):
    share, *packed = targets.ragged(tiny("lstm", lengths=(1, 4, 1), label="tiny"))
    assert share.wanted == pytest.approx(1.1 * 6 / 12)
    assert share.passed == (share.value <= share.wanted)
    assert [target.name.partition(",")[0] for target in packed] == ["packed", "accelerated"]
    for target in packed:
        assert target.wanted == 3
        assert target.passed == (target.value >= 3)
        assert "torch (packed" in target.text
    assert {target.kind for target in (share, *packed)} == {"training"}


def test_overhead(no_inference_mode):
    found = overhead.seconds()
    assert set(found) == {"a call without gradients", "forward", "backward"}
    for name, spent in found.items():
        assert abs(spent.more) < 0.01
        assert (spent.autograd > 0) == (name != "a call without gradients")


def test_one_row(no_inference_mode):
    without, learning = targets.one_row(("GRUCell",), (8, 16))
    assert without.name == "one row, GRUCell, a step"
    assert learning.name == "one row, GRUCell, a step of training"
    for target in (without, learning):
        assert target.wanted == 1
        assert target.passed == (target.value >= 1)
        assert target.text.startswith("torch's time / treadle's at size 8: ")


def test_memory_that_is_kept():
    case = Case("lstm", "memory", 64, 32, 16, 128, "")
    y = case.T * case.B * case.H * 4
    kept = memory.measured(case, "treadle.torch")
    assert kept == pytest.approx(6 * y, rel=0.1)  # y, four gates and c
    assert memory.measured(case, "torch.nn") >= 0.9 * y


def test_targets(monkeypatch):
    for name in ("ragged", "two_threads", "overhead", "one_row", "memory"):
        monkeypatch.setattr(targets, name, lambda *_: iter(()))
    cases = [
        {"name": "a", "kind": "training", "group": "train", "speedup": 1.5},
        {"name": "b", "kind": "training", "group": "train-ragged", "speedup": 0.9},
        {"name": "c", "kind": "recurrent", "group": "batch", "speedup": 0.1},
        {"name": "d", "kind": "training", "group": "train-attention", "speedup": 1.1},
    ]
    never, mean, attends = targets.run({"cases": cases}, "float32")
    assert (attends.value, attends.passed) == (1.1, True)
    assert (never.value, never.passed) == (0.9, False)
    assert (mean.value, mean.passed) == (pytest.approx(1.35**0.5), False)
    assert mean.wanted == 1.3


def test_run(tmp_path, capsys):
    path, readme = tmp_path / "training.json", tmp_path / "README.md"
    first, last = report.markers("training")
    readme.write_text(f"before\n{first}\nold\n{last}\nafter\n")
    wanted = ["--kind", "training", "--filter", "^gru/train/8x64x8x96$"]
    assert main([*wanted, "--quick", "--json", str(path), "--report", str(readme)]) == 0
    (case,) = json.loads(path.read_text())["cases"]
    assert case["kind"] == "training"
    assert not case["wrong"]
    assert case["results"]["treadle"]["variant"] == "treadle.torch"
    assert 0 < case["of_peak"] < 1.1
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "`gru/train/8x64x8x96`" in text
    assert "gru/train/8x64x8x96" in capsys.readouterr().out

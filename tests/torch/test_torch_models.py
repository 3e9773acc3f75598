"""treadle.torch: whole models, checkpoints, several processes."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch

import treadle.torch
from support import samples
from support.torch_checks import CELLS, SEQUENCES, pair

pytestmark = pytest.mark.usefixtures("no_warnings_before")


def model():
    class Own(torch.nn.LSTM):
        def forward(self, x):
            return super().forward(x)[0]

    class Other(torch.nn.LSTM):
        def forward(self, x):
            return torch.nn.LSTM.forward(self, x)[0]

    torch.manual_seed(0)
    return torch.nn.ModuleDict(
        {
            "a": torch.nn.LSTM(5, 9),
            "b": torch.nn.Sequential(torch.nn.GRU(5, 9), torch.nn.Linear(9, 2)),
            "c": torch.nn.RNN(5, 9).double(),
            "d": Own(5, 9),
            "e": torch.nn.GRUCell(5, 9),
            "f": Other(5, 9),
        }
    )


def test_accelerate_and_restore():
    whole = model()
    before = {name: type(m) for name, m in whole.named_modules()}
    parameters = dict(whole.named_parameters())
    x = torch.from_numpy(samples.normal(0, 7, 3, 5))
    expected = whole["a"](x)[0]
    report = treadle.torch.accelerate(whole)
    assert report.replaced == {"a": "LSTM", "b.0": "GRU", "d": "Own", "e": "GRUCell"}
    assert set(report.left) == {"c", "f"}
    assert "float64" in report.left["c"]
    assert "subclass" in report.left["f"]
    assert "a: LSTM runs on treadle" in str(report)
    assert type(whole["a"]) is treadle.torch.LSTM
    assert all(p is parameters[name] for name, p in whole.named_parameters())
    torch.testing.assert_close(whole["a"](x)[0], expected)
    assert treadle.torch.accelerate(whole).replaced == {}
    treadle.torch.restore(whole)
    assert {name: type(m) for name, m in whole.named_modules()} == before
    assert torch.equal(whole["a"](x)[0], expected)


@pytest.mark.parametrize("wrong", [None, 3, "model", torch.nn.LSTM])
def test_accelerate_takes_modules(wrong):
    for function in (treadle.torch.accelerate, treadle.torch.restore):
        with pytest.raises(TypeError, match=r"^treadle\.torch\.(accelerate|restore): model is "):
            function(wrong)


def test_checkpoints_load_both_ways():
    for kind, size in itertools.product(SEQUENCES, (1, 2)):
        theirs = getattr(torch.nn, kind)(5, 9, num_layers=size, bidirectional=True)
        ours = getattr(treadle.torch, kind)(5, 9, num_layers=size, bidirectional=True)
        ours.load_state_dict(theirs.state_dict(), strict=True)
        theirs.load_state_dict(ours.state_dict(), strict=True)
        assert repr(ours) == repr(theirs)


PROCESS = """
import sys
import torch
import treadle.torch

rank, path, weights, data = int(sys.argv[1]), *sys.argv[2:5]
torch.distributed.init_process_group("gloo", f"file://{path}", rank=rank, world_size=2)
model = treadle.torch.LSTM(5, 9)
model.load_state_dict(torch.load(weights))
parallel = torch.nn.parallel.DistributedDataParallel(model)
x = torch.load(data)[:, rank * 4 : rank * 4 + 4]
parallel(x)[0].square().mean().backward()
if rank == 0:
    torch.save([p.grad for p in model.parameters()], f"{path}.gradients")
torch.distributed.barrier()  # neither leaves while the other still talks to it
torch.distributed.destroy_process_group()
"""


def test_two_processes_have_the_gradients_of_one(tmp_path):
    """The modules train under DistributedDataParallel over gloo."""
    theirs, ours = pair("LSTM", 5, 9)
    x = torch.from_numpy(samples.normal(0, 7, 8, 5))
    torch.save(theirs.state_dict(), tmp_path / "weights")
    torch.save(x, tmp_path / "data")
    names = [str(tmp_path / name) for name in ("store", "weights", "data")]
    processes = [
        subprocess.Popen([sys.executable, "-c", PROCESS, str(rank), *names]) for rank in range(2)
    ]
    assert [p.wait(timeout=120) for p in processes] == [0, 0]
    ours(x)[0].square().mean().backward()
    together = torch.load(tmp_path / "store.gradients")
    for gradient, parameter in zip(together, ours.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", SEQUENCES + CELLS)
def test_from_torch_takes_them(kind):
    """from_torch takes accelerated modules as it takes PyTorch's."""
    theirs, ours = pair(kind, 5, 9)
    a, b = treadle.from_torch(ours), treadle.from_torch(theirs)
    assert type(a) is type(b)
    for name, array in b.state_dict().items():
        np.testing.assert_array_equal(a.state_dict()[name], array)

"""treadle convert: state dicts and models into model files, whatever their dtypes."""

import json

import numpy as np
import pytest
import safetensors.torch
import torch

import treadle
from support import child, hostile, samples
from support.tolerance import assert_same_bits
from treadle._storage import formats
from treadle.cli.main import main

DTYPES = ("float32", "bfloat16", "int8")
SOURCES = {
    "LSTM": lambda: torch.nn.LSTM(3, 5, 2, bidirectional=True, proj_size=2),
    "GRU": lambda: torch.nn.GRU(300, 4, bias=False),
    "RNN": lambda: torch.nn.RNN(3, 4),
    "LSTMCell": lambda: torch.nn.LSTMCell(3, 4),
}


def convert(source, target, *options):
    return main(["convert", str(source), str(target), *options])


def values(module):
    return list(module.state_dict().values())


def written(path, module, prefix=""):
    safetensors.torch.save_file({prefix + k: v for k, v in module.state_dict().items()}, path)
    return path


@pytest.mark.parametrize("dtype", [None, *DTYPES])
@pytest.mark.parametrize("given", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", SOURCES)
def test_state_dicts(tmp_path, capsys, kind, given, dtype):
    """The command makes what from_torch makes of the same numbers, in the requested dtype."""
    theirs = SOURCES[kind]().to(given)
    source = written(tmp_path / "source", theirs, "encoder.")
    options = [] if dtype is None else ["--dtype", dtype]
    assert convert(source, tmp_path / "target", *options) == 0
    found = treadle.load(tmp_path / "target")
    expected = treadle.from_torch(theirs.float()).to(dtype or "float32")
    assert repr(found) == repr(expected)
    assert_same_bits(values(found), values(expected))
    count = sum(p.numel() for p in theirs.parameters())
    text = f"{tmp_path / 'target'}: {found!r}, {count:,} parameters\n"
    assert capsys.readouterr().out == text


def test_bfloat16_keeps_its_bits(tmp_path):
    """NaN's payload and denormals among them."""
    theirs = torch.nn.GRU(300, 4).bfloat16()
    bits = np.random.default_rng(0).integers(0, 2**16, (12, 300)).astype(np.uint16)
    theirs.weight_ih_l0.data = torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16)
    written(tmp_path / "source", theirs)
    assert convert(tmp_path / "source", tmp_path / "target", "--dtype", "bfloat16") == 0
    stored = treadle.load(tmp_path / "target")._packed.parameters["weight_ih_l0"]
    np.testing.assert_array_equal(stored, bits)


@pytest.mark.parametrize("dtype", [None, *DTYPES])
@pytest.mark.parametrize("given", DTYPES)
def test_models(tmp_path, given, dtype):
    """The command converts files of treadle.save, of any class, as `to` converts the module."""
    layer = treadle.TransformerEncoderLayer(24, 2, 300, seed=3)
    for module in (
        treadle.TransformerEncoder(layer, 2, treadle.LayerNorm(24)).to(given),
        treadle.MultiheadAttention(24, 2, kdim=5, add_bias_kv=True, seed=1, dtype=given),
        treadle.GRU(5, 9, batch_first=True, reset_after=False, seed=2, dtype=given),
        treadle.LayerNorm((3, 4)),
    ):
        treadle.save(module, tmp_path / "source")
        options = [] if dtype is None else ["--dtype", dtype]
        assert convert(tmp_path / "source", tmp_path / "target", *options) == 0
        found, expected = treadle.load(tmp_path / "target"), module.to(dtype or given)
        assert repr(found) == repr(expected)
        assert_same_bits(values(found), values(expected))
        for name, value in expected._packed.parameters.items():
            assert formats.dtype_of(found._packed.parameters[name]) == formats.dtype_of(value)


def test_options(tmp_path):
    written(tmp_path / "source", torch.nn.RNN(3, 4))
    options = ["--batch-first", "--nonlinearity", "relu", "--mode", "rnn", "--prefix", ""]
    assert convert(tmp_path / "source", tmp_path / "target", *options) == 0
    assert (
        repr(treadle.load(tmp_path / "target"))
        == "RNN(3, 4, nonlinearity='relu', batch_first=True)"
    )


PEAK = """
import sys, tracemalloc
from treadle.cli.main import main
tracemalloc.start()
assert main(["convert", *sys.argv[1:]]) == 0
print(tracemalloc.get_traced_memory()[1])
"""


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ours", [False, True])
def test_memory(tmp_path, dtype, ours):
    """One matrix and its rounded form at a time."""
    theirs = torch.nn.LSTM(384, 384, 12)
    source = tmp_path / "source"
    if ours:
        treadle.save(treadle.from_torch(theirs), source)
    else:
        written(source, theirs)
    output = child.succeed(PEAK, source, tmp_path / "target", "--dtype", dtype)
    matrix = 4 * 4 * 384 * 384
    assert int(output.splitlines()[-1]) < 2.5 * matrix + 2**22 < source.stat().st_size / 4


def refused(capsys, source, target, *options):
    assert convert(source, target, *options) == 1
    message = capsys.readouterr().err
    assert message.startswith("treadle convert: ")
    assert len(message.splitlines()) == 1
    assert not target.exists()
    return message


def test_what_is_no_layer(tmp_path, capsys):
    source, target = tmp_path / "source", tmp_path / "target"
    good = torch.nn.GRU(3, 4).state_dict()
    for tensors, words in {
        "nothing": ({"a": torch.zeros(3)}, "no tensor weight_hh_l0"),
        "two": ({f"{p}.{k}": v.clone() for p in "ab" for k, v in good.items()}, "several layers"),
        "double": ({k: v.double() for k, v in good.items()}, "dtype 'F64', expected 'F32' or"),
        "a bias of integers": (good | {"bias_hh_l0": torch.zeros(12, dtype=torch.int8)}, "'I8'"),
        "rows": (good | {"weight_ih_l0": torch.zeros(13, 3)}, "13 rows"),
        "a vector": (good | {"weight_hh_l0": torch.zeros(12)}, "matrices"),
        "shape": (good | {"bias_hh_l0": torch.zeros(11)}, "shape"),
        "a bias too few": ({k: v for k, v in good.items() if k != "bias_hh_l0"}, "lacks"),
    }.values():
        safetensors.torch.save_file(tensors, source)
        assert words in refused(capsys, source, target)
    written(source, torch.nn.GRU(3, 4))
    assert "expected lstm" in refused(capsys, source, target, "--mode", "lstm")
    assert "activation" in refused(capsys, source, target, "--nonlinearity", "exec")
    torch.save(good, source)
    assert "pickle" in refused(capsys, source, target)
    with pytest.raises(SystemExit):
        convert(source, target, "--dtype", "int4")
    assert "null" not in capsys.readouterr().err
    written(source, torch.nn.GRU(3, 4))
    assert convert(source, source) == 1
    assert "expected another file" in capsys.readouterr().err


def test_damaged_models(tmp_path, capsys):
    """The files of test_files.py in short: they stay what they are, and nothing is written."""
    source, target = tmp_path / "source", tmp_path / "target"
    treadle.save(treadle.GRU(3, 4, dtype="int8"), source)
    good = source.read_bytes()
    assert "no options" in refused(capsys, source, target, "--batch-first")
    assert "no options" in refused(capsys, source, target, "--mode", "gru")
    variants = hostile.variants(good)
    header, payload = hostile.split(good)
    begin = header["weight_hh_l0.scale"]["data_offsets"][0]
    wrong = bytearray(payload)
    wrong[begin : begin + 4] = np.float32(-1).tobytes()
    variants["a negative scale"] = hostile.join(header, bytes(wrong))
    metadata = json.loads(header["__metadata__"]["treadle"])
    metadata["configuration"]["dtype"] = "bfloat16"
    header["__metadata__"]["treadle"] = json.dumps(metadata)
    variants["another dtype"] = hostile.join(header, payload)
    for name, data in variants.items():
        if name.startswith(("metadata", "no metadata")) or "spaces" in name:
            continue  # a state dict then, or none
        source.write_bytes(data)
        refused(capsys, source, target, "--dtype", "bfloat16")


def test_a_target_that_cannot_be_written(tmp_path, capsys):
    """A target that cannot be written keeps its content."""
    written(tmp_path / "source", torch.nn.GRU(3, 4))
    assert convert(tmp_path / "source", tmp_path / "no folder" / "m") == 1
    assert "no folder" in capsys.readouterr().err
    assert convert(tmp_path / "source", tmp_path) == 1


def test_results_follow(tmp_path):
    """The model computes what the state dict's does, but for the rounding."""
    theirs = torch.nn.LSTM(20, 64)
    written(tmp_path / "source", theirs)
    x = samples.normal(0, 30, 3, 20)
    expected = theirs(torch.from_numpy(x))[0].detach().numpy()
    for dtype, most in (("float32", 1e-5), ("bfloat16", 2.0**-6), ("int8", 2.0**-5)):
        assert convert(tmp_path / "source", tmp_path / "target", "--dtype", dtype) == 0
        assert np.abs(treadle.load(tmp_path / "target")(x)[0] - expected).max() < most

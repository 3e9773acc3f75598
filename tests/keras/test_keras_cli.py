"""`treadle convert` and `treadle info` take files of Keras."""

import keras
import numpy as np
import pytest

import treadle
from support import keras_files
from support.keras_checks import L, draw, normal, quiet, saved
from support.tolerance import assert_same_bits
from treadle.cli.main import main

X = normal(1, 3, 12, 4)


@pytest.fixture
def path(tmp_path):
    with quiet():
        model = draw(keras.Sequential([keras.Input((12, 4)), L.LSTM(40), L.Dense(1)], name="net"))
    return saved(model, tmp_path)


@pytest.mark.parametrize("dtype", [None, "int8", "bfloat16"])
def test_convert(path, dtype, tmp_path, capsys):
    target = tmp_path / "out.safetensors"
    assert main(["convert", str(path), str(target), *(["--dtype", dtype] if dtype else [])]) == 0
    assert "bytes of weights" in capsys.readouterr().out
    wanted = treadle.keras.load(path)
    wanted = wanted.to(dtype) if dtype else wanted
    assert_same_bits(treadle.load(target)(X), wanted(X))


def test_convert_weights_alone(tmp_path):
    source = keras_files.unpacked("keras2_convolutions_only.weights.h5", tmp_path)
    target = tmp_path / "out.safetensors"
    assert main(["convert", str(source), str(target), "--config", str(keras_files.CONFIG)]) == 0
    inputs, outputs, _ = keras_files.expected("keras2_convolutions_only.weights.h5")
    result = treadle.load(target)(*inputs)
    found = list(result.values()) if isinstance(result, dict) else [result]
    assert [one.shape for one in found] == [one.shape for one in outputs]


def test_options_of_state_dicts(path, tmp_path, capsys):
    assert main(["convert", str(path), str(tmp_path / "out"), "--batch-first"]) != 0
    assert "--batch-first is for a state dict" in capsys.readouterr().err
    np.save(tmp_path / "weights.npy", X)
    assert main(["convert", str(tmp_path / "weights.npy"), "out", "--config", "x.json"]) != 0
    assert "--config is for weights of Keras" in capsys.readouterr().err


def test_info(path, tmp_path, capsys):
    assert main(["info", str(path), "--profile", "--set", "batch=2"]) == 0
    shown = capsys.readouterr().out
    assert 'Model: "net"' in shown
    assert "treadle.Recurrent" in shown

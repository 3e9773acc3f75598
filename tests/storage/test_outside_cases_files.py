"""These tests hand treadle.load and load_state_dict files and arrays of other programs."""

import gzip
import io
import json
import pickle
import struct
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save_file

import treadle
from treadle.cli.main import main


def archive(*names):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as members:
        for name in names:
            members.writestr(name, b"content " * 20)
    return file.getvalue()


def array():
    file = io.BytesIO()
    np.save(file, np.zeros((4, 4), np.float32))
    return file.getvalue()


FILES = {
    "model.gguf": (b"GGUF" + struct.pack("<IQQ", 3, 0, 0) + bytes(64), "GGUF file. llama.cpp"),
    "model.h5": (b"\x89HDF\r\n\x1a\n" + bytes(500), "treadle.keras.load"),
    "model.keras": (
        archive("metadata.json", "config.json", "model.weights.h5"),
        "treadle.keras.load",
    ),
    "model.pt": (archive("model/data.pkl", "model/data/0"), "pickle, as torch.save writes it"),
    "script.pt": (archive("m/code/__torch__.py", "m/constants.pkl"), "as torch.save writes it"),
    "program.pt2": (archive("program/.format_version"), "as torch.save writes it"),
    "model.pkl": (pickle.dumps({"weight": [0.0] * 100}), "treadle never unpickles"),
    "model.npz": (archive("weight.npy"), "archive of NumPy"),
    "model.npy": (array(), "array of NumPy"),
    "model.zip": (archive("folder/model.safetensors"), "ZIP archive. Unpack it"),
    "model.gz": (gzip.compress(bytes(10_000)), "gzip"),
    "model.tflite": (b"\x1c\0\0\0TFL3" + bytes(100), "TensorFlow Lite"),
    "silero_vad.onnx": (b"\x08\x08\x12\x07pytorch\x1a\x052.1.0" + bytes(99), "treadle.onnx.load"),
    "unnamed": (b"\x08\x0a:\xff\x01\n\x10" + bytes(300), "ONNX model"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "page": (b"<!DOCTYPE html><html><body>404</body></html>", "a failed download"),
    "config.json": (json.dumps({"model_type": "bert"}).encode(), "treadle.transformers"),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("command", ["load", "info", "convert"])
def test_foreign_files_are_named(name, command, tmp_path, capsys):
    content, sentence = FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    if command == "load":
        with pytest.raises(ValueError, match="expected safetensors, is ") as error:
            treadle.load(path)
        message = str(error.value)
    else:
        target = [str(tmp_path / "target.safetensors")] if command == "convert" else []
        assert main([command, str(path), *target]) != 0
        message = capsys.readouterr().err
    assert sentence in message
    assert str(path) in message


def test_torch_and_onnx_write_what_is_named(tmp_path):
    """The signatures are those of files that the programs themselves write."""
    torch = pytest.importorskip("torch")
    module = torch.nn.LSTM(3, 4)
    for legacy in (False, True):
        path = tmp_path / f"{legacy}.pt"
        torch.save(module.state_dict(), path, _use_new_zipfile_serialization=not legacy)
        with pytest.raises(ValueError, match="a pickle, as torch"):
            treadle.load(path)
    torch.export.save(torch.export.export(torch.nn.Linear(3, 4), (torch.zeros(2, 3),)), path)
    with pytest.raises(ValueError, match="a pickle, as torch"):
        treadle.load(path)


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["encoder.lstm.weight_hh_l0", "encoder.lstm.weight_ih_l0"], "treadle convert"),
        (["cell.weight_hh", "cell.weight_ih"], "treadle convert"),
        (["embeddings.word_embeddings.weight", "encoder.layer.0.x"], "AutoModel.from_pretrained"),
        (["fc.weight", "fc.bias"], "load_state_dict"),
    ],
)
def test_a_plain_state_dict(names, sentence, tmp_path, capsys):
    path = tmp_path / "model.safetensors"
    save_file({name: np.zeros((4, 4), np.float32) for name in names}, path)
    with pytest.raises(ValueError, match=sentence):
        treadle.load(path)
    assert main(["info", str(path)]) != 0
    assert sentence in capsys.readouterr().err


def of(module, name, change):
    states = module.state_dict()
    return {**states, name: change(states[name])}


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("weight_ih_l0", lambda w: w.T, r"transposed, as in Keras: pass its transpose"),
        ("weight_hh_l0", lambda w: w.T, r"transposed, as in Keras: pass its transpose"),
        ("weight_ih_l0", lambda w: w[np.newaxis], r"ONNX's axis of directions"),
        ("weight_hh_l0", lambda w: np.stack([w, w]), r"ONNX's axis of directions"),
        ("weight_ih_l0", lambda w: w.reshape(3, -1, 5), r"reshape to \(24, 5\)"),
        ("bias_ih_l0", lambda b: np.stack([b, b]), r"both biases, as a GRU of Keras"),
        ("bias_ih_l0", lambda b: np.concatenate([b, b])[np.newaxis], r"as ONNX's B"),
    ],
)
def test_layouts_of_others_are_named(name, change, sentence):
    gru = treadle.GRU(5, 8)
    with pytest.raises(ValueError, match=sentence):
        gru.load_state_dict(of(gru, name, change))
    with pytest.raises(ValueError, match=r"expected \(24,( 5| 8|)\)$"):
        gru.load_state_dict(of(gru, name, lambda w: np.zeros(7, np.float32)))


def test_layouts_of_others_in_functional():
    x, w, r = (np.zeros(s, np.float32) for s in ((3, 2, 5), (32, 5), (32, 8)))
    with pytest.raises(ValueError, match="transposed, as in Keras"):
        treadle.functional.lstm(x, w.T, r.T)
    with pytest.raises(ValueError, match="ONNX's axis of directions"):
        treadle.functional.lstm(x, w[np.newaxis], r[np.newaxis])


def test_a_transposed_matrix_in_a_state_dict_to_convert(tmp_path, capsys):
    path = tmp_path / "model.safetensors"
    states = treadle.LSTM(5, 8).state_dict()
    states["weight_ih_l0"] = np.ascontiguousarray(states["weight_ih_l0"].T)
    save_file(states, path)
    assert main(["convert", str(path), str(tmp_path / "target.safetensors")]) != 0
    message = capsys.readouterr().err
    assert "5 rows" in message
    assert "transposed, as in Keras" in message

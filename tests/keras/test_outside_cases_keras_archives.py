"""Damaged and hostile `.keras` and `.h5` files: each is refused with its name, and cheaply."""

import io
import json
import os
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest

from support import keras_configs as make
from support import keras_files
from treadle.keras.files.read import read

GOOD = make.members()
SIZE = len(GOOD["model.weights.h5"])


def refused(data, path, sentence):
    """Reading these bytes raises ValueError with the file's name, and takes little memory."""
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=sentence) as error:
            read(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert str(error.value).startswith(f"treadle.keras.load: {path}")
    assert peak < 1 << 24  # what a good file of this size takes, and Python's JSON


def raw():
    return make.Raw()


ARCHIVES = {
    "a member twice": (raw().all().add("config.json", b"{}").end(), "member 'config.json' twice"),
    "an absolute name": (raw().all().add("/etc/x", b"").end(), "named '/etc/x', expected a rel"),
    "a way up": (raw().all().add("assets/../../x", b"").end(), "without '..'"),
    "a drive": (raw().all().add("C:x", b"").end(), "expected a relative path"),
    "a way of Windows": (raw().all().add("a\\..\\x", b"").end(), "expected a relative path"),
    "a name with an end": (raw().all().add("a\0b", b"").end(), "expected a relative path"),
    "a name in another code": (raw().all().add(b"\xff\xfe", b"").end(), "no UTF-8"),
    "no name": (raw().all().add("", b"").end(), "expected a relative path"),
    "encrypted": (
        raw().all(**{"config.json": 1}).add("config.json", b"{}", flags=1).end(),
        "config.json is encrypted",
    ),
    "bzip2": (
        raw().all(**{"config.json": 1}).add("config.json", b"{}", local=None, method=12).end(),
        "compressed by method 12",
    ),
    "a wrong checksum": (
        raw().all(**{"config.json": 1}).add("config.json", b"{}", checksum=7).end(),
        "does not have its checksum",
    ),
    "larger than it says": (
        raw().all(**{"config.json": 1}).add("config.json", b"{}   ", method=8, size=2).end(),
        "does not end behind the 2 bytes",
    ),
    "smaller than it says": (
        raw().all(**{"config.json": 1}).add("config.json", b"{}", method=8, size=99).end(),
        "has 2 bytes, expected the 99",
    ),
    "stored otherwise than it says": (
        raw().all(**{"config.json": 1}).add("config.json", b"{}", size=3).end(),
        "has 2 bytes, expected the 3",
    ),
    "no stream": (
        raw().all(**{"config.json": 1}).add("config.json", b"\xff" * 9, method=0).end(),
        "not valid JSON",
    ),
    "beyond the end": (
        raw().all(**{"config.json": 1}).add("config.json", b"{}", at=10**6).end(),
        "beyond the file",
    ),
    "longer than the file": (
        raw().all(**{"config.json": 1}).add("config.json", b"{}", stored=10**6, size=10**6).end(),
        "overlap the directory",
    ),
    "in another's header": (
        raw().all(**{"config.json": 1}).add("config.json", b"{}", local=b"other.json!").end(),
        "differs from the entry",
    ),
    "overlapping": (
        raw().all(**{"config.json": 1}).add("config.json", b"{}", at=0).end(),
        "differs from the entry",
    ),
    "a bomb": (
        raw()
        .all(**{"model.weights.h5": 1})
        .add("model.weights.h5", bytes(1 << 27), method=8)
        .end(),
        r"unpacks \d+ bytes to 134217728, expected at most 100 times",
    ),
    "a large configuration": (
        raw().all(**{"config.json": 1}).add("config.json", bytes(1 << 25), method=8).end(),
        "expected at most 16777216",
    ),
    "beyond 4 GiB": (
        raw().all(**{"config.json": 1}).add("config.json", b"{}", size=0xFFFFFFFF).end(),
        "beyond 4 GiB",
    ),
    "ZIP64": (raw().all().end(count=0xFFFF), "is a ZIP64 archive"),
    "parts": (raw().all().end(disk=1), "one of several parts"),
    "counts that differ": (raw().all().end(here=2), "one of several parts"),
    "too many members": (raw().all().end(count=60_000), "60000 members in"),
    "one member less": (raw().all().end(count=2), "bytes to spare"),
    "one member more": (raw().all().end(count=4, size=200), "expected its end at|members in"),
    "a directory elsewhere": (raw().all().end(start=5), "expected its end at"),
    "bytes before": (raw().all().end(before=b"PK\x03\x04"), "differs from the entry"),
    "an end in the comment": (raw().all().end(comment=b"PK\x05\x06" * 9), "has no end of a ZIP"),
    "bytes behind": (raw().all().end(after=b"more"), "bytes follow the end"),
    "no configuration": (
        make.archive({k: v for k, v in GOOD.items() if k != "config.json"}),
        "has no config.json",
    ),
    "no weights": (
        make.archive({k: v for k, v in GOOD.items() if k != "model.weights.h5"}),
        "has no model.weights.h5",
    ),
    "weights of NumPy": (
        make.archive(
            {**{k: v for k, v in GOOD.items() if "h5" not in k}, "model.weights.npz": b""}
        ),
        "has no model.weights.h5: it is .*npz",
    ),
    "not a model": (make.archive({"a": b""}), "has no config.json"),
    "weights that are none": (
        make.archive({**GOOD, "model.weights.h5": pickle.dumps(1)}),
        "model.weights.h5 has .* no HDF5 file",
    ),
    "no JSON": (make.archive({**GOOD, "config.json": b"{"}), "config.json is not valid JSON"),
    "a list": (make.archive({**GOOD, "config.json": b"[]"}), "expected a JSON object"),
    "NaN": (make.archive({**GOOD, "config.json": b'{"a": NaN}'}), "NaN is no number"),
    "a name twice": (make.archive({**GOOD, "config.json": b'{"a": 1, "a": 2}'}), "occurs twice"),
    "another code": (make.archive({**GOOD, "config.json": b'{"a": "\xff"}'}), "not valid JSON"),
    "deep": (
        make.archive({**GOOD, "config.json": b'{"a":' * 500 + b"1" + b"}" * 500}),
        "more than 128 levels",
    ),
    "deeper": (make.archive({**GOOD, "config.json": b"[" * 10**6}), "not valid JSON"),
    "a version that is none": (
        make.archive({**GOOD, "metadata.json": {"keras_version": [3]}}),
        r"keras_version is \[3\]",
    ),
    "a pickle": (b"\x80\x04K\x01.", "expected a file of Keras .*, is a pickle, as torch"),
    "something else": (b"abc", "is of another kind: it begins with b'abc'"),
    "nothing": (b"", "expected a file of Keras"),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives(name, tmp_path):
    data, sentence = ARCHIVES[name]
    refused(data, tmp_path / "model.keras", sentence)


def test_good_archives(tmp_path):
    """The file that the variants change is good: stored or deflated, with a comment and assets."""
    path = tmp_path / "model.keras"
    for data in (
        make.archive(GOOD),
        make.archive(GOOD, zipfile.ZIP_DEFLATED),
        raw().all().end(),
        raw().all().end(comment=b"a comment"),
        raw().all().add("assets/", b"").add("assets/vocabulary.txt", b"a").end(),
    ):
        path.write_bytes(data)
        assert read(path).name == "grus"


@pytest.mark.parametrize("name", ["keras3_gru.keras", "keras2_gru.h5"])
def test_truncated(name, tmp_path):
    data = keras_files.content(name)
    for size in [*range(0, 200, 7), *np.linspace(200, len(data) - 1, 40).astype(int)]:
        refused(data[:size], tmp_path / name, None)


def test_many_members_and_values(tmp_path):
    """Neither a long directory nor a long list takes more than a multiple of the file."""
    archive = raw().all()
    for index in range(20_000):
        archive.add(f"assets/{index}", b"", at=0)
    (tmp_path / "many.keras").write_bytes(archive.end())
    assert read(tmp_path / "many.keras").name == "grus"
    data = make.archive({**GOOD, "config.json": b'{"a": [' + b"0," * 2_000_001 + b"0]}"})
    path = tmp_path / "long.keras"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="more than 2000000 values"):
        read(path)


def test_files_that_are_none(tmp_path):
    with pytest.raises(ValueError, match=r"is a directory, expected a file that model\.save"):
        read(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(
        ValueError, match=r"a SavedModel of TensorFlow.*model\.save\('model\.keras'"
    ):
        read(tmp_path)
    os.mkfifo(tmp_path / "pipe.keras")
    with pytest.raises(ValueError, match="not a regular file"):
        read(tmp_path / "pipe.keras")
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "missing.keras")
    with pytest.raises(TypeError, match="path is of type int"):
        read(3)


def test_a_configuration_beside(tmp_path):
    """config is for weights alone, and checked like one in a file."""
    path = keras_files.unpacked("keras2_gru.h5", tmp_path)
    weights = keras_files.unpacked("keras2_convolutions_only.h5", tmp_path)
    archive = keras_files.unpacked("keras3_gru.keras", tmp_path)
    for whole in (path, archive):
        with pytest.raises(ValueError, match="has its own configuration"):
            read(whole, keras_files.config())
    with pytest.raises(TypeError, match="config is of type list"):
        read(weights, [])
    with pytest.raises(ValueError, match="not valid JSON"):
        read(weights, "{")
    with pytest.raises(ValueError, match="has no weights of layer 'lstm'"):
        read(weights, make.sequential())
    with pytest.raises(FileNotFoundError):
        read(weights, "missing.json")
    lambdas = json.loads(keras_files.CONFIG.read_text())
    lambdas["config"]["layers"][-1]["class_name"] = "Lambda"
    with pytest.raises(ValueError, match="it is Python code, which treadle never runs"):
        read(weights, lambdas)


def damaged_weights():
    """name -> (change of the weights of keras3_gru.keras, sentence)"""
    h5py = pytest.importorskip("h5py")
    place = "layers/gru/cell/vars"

    def replaced(value):
        def change(file):
            del file[f"{place}/0"]
            if value is not None:
                file[f"{place}/0"] = value

        return change

    return {
        "missing": (replaced(None), "expected 3 variables: kernel, recurrent_kernel, bias"),
        "one more": (lambda f: f[place].create_dataset("3", data=[1.0]), "expected 3 variables"),
        "turned": (replaced(np.zeros((12, 3), "f4")), r"shape \(12, 3\), expected \(12, 12\)"),
        "of no rows": (replaced(np.zeros((0, 12), "f4")), r"shape \(0, 12\), expected"),
        "flat": (replaced(np.zeros(36, "f4")), r"shape \(36,\), expected \(I, 12\)"),
        "of texts": (replaced(np.array([b"a"])), "no array of numbers"),
        "elsewhere": (replaced(h5py.ExternalLink("/etc/passwd", "/")), "a link by name"),
        "linked": (replaced(h5py.SoftLink("/layers/gru_1/cell/vars/0")), "a link by name"),
        "a group": (lambda f: (replaced(None)(f), f.create_group(f"{place}/0")), "is no array"),
        "no layers": (lambda f: f.move("layers", "other"), "expected 'layers' as Keras 3 writes"),
        "petabytes": (
            lambda f: (
                replaced(None)(f),
                f.create_dataset(f"{place}/0", (2**45, 12), "f4", chunks=(2**16, 12)),
            ),
            "expected at most 4294967296",
        ),
    }


@pytest.mark.parametrize("name", damaged_weights())
def test_weights_that_do_not_fit(name, tmp_path):
    h5py = pytest.importorskip("h5py")
    change, sentence = damaged_weights()[name]
    target = io.BytesIO(GOOD["model.weights.h5"])
    with h5py.File(target, "r+") as file:
        change(file)
    data = make.archive({**GOOD, "model.weights.h5": target.getvalue()})
    refused(data, tmp_path / "model.keras", sentence)


@pytest.mark.parametrize(
    ("layer", "names", "sentence"),
    [
        ("gru", ["gru/gru_cell/kernel:0"], r"expected 3: \['kernel', 'recurrent_kernel'"),
        ("gru", None, r"variables \[\], expected 3"),
        ("gru", ["a/kernel:0", "a/bias:0", "a/recurrent_kernel:0"], "expected recurrent_kernel of"),
        ("gru", ["a/kernel:0", "a/recurrent_kernel:0", "a/bias:0"], "is no array"),
        ("gru", ["../kernel:0", "../../recurrent_kernel:0", "bias:0"], "is no array"),
    ],
)
def test_names_of_weights_that_do_not_fit(layer, names, sentence, tmp_path):
    h5py = pytest.importorskip("h5py")
    target = io.BytesIO(keras_files.content("keras2_gru.h5"))
    with h5py.File(target, "r+") as file:
        group = file[f"model_weights/{layer}"]
        del group.attrs["weight_names"]
        if names is not None:
            group.attrs["weight_names"] = np.array([name.encode() for name in names])
    refused(target.getvalue(), tmp_path / "model.h5", sentence)


def test_names_of_layers_that_do_not_fit(tmp_path):
    h5py = pytest.importorskip("h5py")
    for names, sentence in (
        (["x", "x"], "a name twice"),
        (["x", "gru"], "no weights of layer 'be"),
    ):
        target = io.BytesIO(keras_files.content("keras2_gru.h5"))
        with h5py.File(target, "r+") as file:
            file["model_weights"].attrs["layer_names"] = np.array([n.encode() for n in names])
        refused(target.getvalue(), tmp_path / "model.h5", sentence)

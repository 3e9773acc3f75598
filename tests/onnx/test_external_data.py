"""Constants in files beside a model: what is read, and what never is.

Every test runs twice: with files that are opened below a folder, and by paths, as Windows does.
"""

import os

import numpy as np
import pytest

import treadle.onnx
from support import onnx_files as files
from treadle.onnx import external_data
from treadle.onnx.external_data import ExternalData
from treadle.onnx.load import read_graph

NUMBERS = np.arange(6, dtype=np.float32).reshape(2, 3)


def tensor(name="c", dims=(2, 3), code=1, **place):
    """A tensor whose numbers are in another file."""
    entries = [files.message((1, key), (2, str(value))) for key, value in place.items()]
    return files.message(
        *[(1, n) for n in dims], (2, code), (8, name), *[(13, e) for e in entries], (14, 1)
    )


def model(*tensors):
    """A model that adds tensors named c, d, e, ... to its input."""
    names = ["x", *"cdefgh"[: len(tensors)]]
    return files.simple(files.node("Concat", names, ["y"], axis=0), constants=tensors)


def constants(folder, *tensors):
    return read_graph(model(*tensors), "test", str(folder))[0].constants


@pytest.fixture(params=["below the folder", "by paths"], autouse=True)
def by_paths(request, monkeypatch):
    """Tell whether files are opened by paths, as on Windows, where links would be followed."""
    if request.param == "by paths":
        monkeypatch.setattr(external_data, "_BELOW", False)
        monkeypatch.setattr(external_data, "_FLAGS", os.O_RDONLY)
        monkeypatch.setattr(external_data, "_LEADS_ELSEWHERE", "/\\\0:")
    return request.param == "by paths"


@pytest.fixture
def folder(tmp_path):
    """A folder with a file of numbers behind 16 other bytes, and a secret outside of it."""
    (tmp_path / "secret").write_bytes(NUMBERS.tobytes())
    inner = tmp_path / "model"
    inner.mkdir()
    (inner / "weights.bin").write_bytes(bytes(16) + NUMBERS.tobytes())
    return inner


def test_read(folder):
    found = constants(
        folder,
        tensor(location="weights.bin", offset=16, length=24),
        tensor("d", (3,), location="weights.bin", offset=0, checksum="never looked at"),
    )
    assert np.array_equal(found["c"], NUMBERS)
    assert np.array_equal(found["d"], np.zeros(3))
    assert found["c"].flags.aligned


def test_the_folder_may_be_the_current_one(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert np.array_equal(constants("", tensor(location="weights.bin", offset=16))["c"], NUMBERS)


def test_halves_of_another_file(folder):
    (folder / "half").write_bytes(NUMBERS.astype(np.float16).tobytes())
    assert np.array_equal(constants(folder, tensor(code=10, location="half"))["c"], NUMBERS)


def test_unused_files_are_not_opened(folder):
    data = files.simple(files.node("Relu", ["x"], ["y"]), constants=[tensor(location="../secret")])
    assert read_graph(data, "test", str(folder))[0].constants == {}


@pytest.mark.parametrize(
    "location",
    ["../secret", "..", ".", "", "/etc/passwd", "sub/file", "sub\\file", "a\0b", "n" * 300],
)
def test_other_places(folder, location):
    with pytest.raises(ValueError, match="expected the plain name of a file in the model's own"):
        constants(folder, tensor(location=location))


def test_bytes_have_no_folder():
    with pytest.raises(ValueError, match="expected a model that was given by its path"):
        read_graph(model(tensor(location="weights.bin")), "test", None)


def test_nothing_there(folder):
    with pytest.raises(ValueError, match="missing, which is not in the model's folder"):
        constants(folder, tensor(location="missing"))


def test_links_are_refused(folder):
    os.symlink(folder.parent / "secret", folder / "symbolic")
    os.symlink(folder / "weights.bin", folder / "inside")
    os.link(folder.parent / "secret", folder / "hard")
    for name, words in (
        ("symbolic", "a symbolic link"),
        ("inside", "a symbolic link"),
        ("hard", r"a file of 2 names \(hard links\)"),
    ):
        with pytest.raises(ValueError, match=f"{name}, which is {words}; expected a regular file"):
            constants(folder, tensor(location=name))


def test_pipes_folders_and_devices_are_refused(folder):
    os.mkfifo(folder / "pipe")  # opening it would wait for ever
    (folder / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(ValueError, match=f"{name}, which is no regular file"):
            constants(folder, tensor(location=name))
    with pytest.raises(ValueError, match="null, which is no regular file"):
        constants("/dev", tensor(location="null"))


@pytest.mark.parametrize("location", ["C:weights.bin", "weights.bin:stream"])
def test_drives_and_streams(folder, by_paths, location):
    """A colon is a letter as any other but where it leads to another place."""
    words = "expected the plain name" if by_paths else "which is not in the model's folder"
    with pytest.raises(ValueError, match=words):
        constants(folder, tensor(location=location))


def test_a_file_that_is_changed_for_a_link(folder, monkeypatch, by_paths):
    """What counts is the file that was opened, not the one that was looked at before."""
    place, secret = folder / "weights.bin", folder.parent / "secret"
    opened = os.open

    def change(path, flags, *args, **kwargs):
        if os.path.basename(path) == "weights.bin":
            place.unlink()
            link(secret, place)
        return opened(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", change)
    link = os.symlink
    error, words = (ValueError, "another file took") if by_paths else (OSError, "symbolic links")
    with pytest.raises(error, match=words):
        constants(folder, tensor(location="weights.bin"))
    place.unlink()
    place.write_bytes(bytes(40))
    link = os.link
    with pytest.raises(ValueError, match="a file of 2 names"):
        constants(folder, tensor(location="weights.bin"))


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ({"offset": 17}, "the bytes 17 to 41 of the file weights.bin, expected at most 40"),
        ({"offset": 10**17}, "expected at most 40"),
        ({"offset": 2**64}, "has the offset '18446744073709551616', expected a number of bytes"),
        ({"offset": -1}, "has the offset '-1'"),
        ({"offset": "1e3"}, "has the offset '1e3'"),
        ({"offset": "²"}, "has the offset"),
        ({"length": 23}, "has a length of 23 bytes in another file, expected 24"),
        ({"length": 2**60}, "has the length"),
    ],
)
def test_wrong_places_in_a_file(folder, place, words):
    with pytest.raises(ValueError, match=words):
        constants(folder, tensor(location="weights.bin", **place))


@pytest.mark.parametrize("dims", [(2**40,), (2**31, 2**31), (2**62, 4), (-1, 6), (0, 2**62)])
def test_sizes_are_checked_before_memory_is_taken(folder, dims):
    with pytest.raises(ValueError, match="expected"):
        constants(folder, tensor(dims=dims, location="weights.bin"))


def test_tensors_must_not_lie_upon_each_other(folder):
    """One tensor twice is read once; a file of n bytes never becomes more than n bytes."""
    same = {"location": "weights.bin", "offset": 16}
    found = constants(folder, tensor(**same), tensor("d", **same))
    assert np.array_equal(found["d"], NUMBERS)
    other = {"location": "weights.bin", "offset": 12}
    with pytest.raises(ValueError, match="lies upon other tensors in the file weights"):
        constants(folder, tensor(**same), tensor("d", **other))


def test_a_file_that_shrinks(folder):
    path = folder / "weights.bin"
    other = ExternalData("test", str(folder))
    assert other.read({"location": "weights.bin"}, 8, "a tensor").size == 8
    os.truncate(path, 20)
    with pytest.raises(ValueError, match="expected at most 20"):
        other.read({"location": "weights.bin", "offset": "16"}, 24, "a tensor")
    other.close()


def test_files_are_closed(folder):
    before = set(os.listdir("/dev/fd"))
    constants(folder, tensor(location="weights.bin", offset=16))
    with pytest.raises(ValueError, match="missing"):
        constants(folder, tensor(location="weights.bin"), tensor("d", location="missing"))
    assert set(os.listdir("/dev/fd")) == before


def test_too_many_files(folder):
    for i in range(65):
        (folder / str(i)).write_bytes(bytes(4))
    tensors = [tensor(f"c{i}", (1,), location=str(i)) for i in range(65)]
    names = ["x", *[f"c{i}" for i in range(65)]]
    data = files.simple(files.node("Concat", names, ["y"], axis=0), constants=tensors)
    with pytest.raises(ValueError, match="names more than 64 other files"):
        read_graph(data, "test", str(folder))


def test_load_looks_beside_the_model(folder, tmp_path, monkeypatch):
    data = files.simple(
        files.node("MatMul", ["x", "c"], ["y"]),
        constants=[tensor(dims=(3, 2), location="weights.bin", offset=16)],
    )
    (folder / "model.onnx").write_bytes(data)
    monkeypatch.chdir(tmp_path)
    found = treadle.onnx.load("model/model.onnx")(np.ones((1, 3), np.float32))["y"]
    assert np.array_equal(found, [[6, 9]])

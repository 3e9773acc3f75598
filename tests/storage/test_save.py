"""save: all or nothing, whatever happens meanwhile."""

import os
import signal
import time
from pathlib import Path

import pytest

import treadle
from support import child, samples
from support.tolerance import assert_same_bits
from treadle._storage import files
from treadle.graph.ir import Graph, Node, Value
from treadle.graph.model import Model


class Killed(BaseException):
    pass


@pytest.mark.parametrize("call", ["replace", "fsync"])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, MemoryError, Killed])
def test_failed_save_keeps_the_old_file(tmp_path, monkeypatch, call, error):
    path = tmp_path / "m"
    treadle.save(treadle.GRU(3, 4, seed=0), path)
    before = path.read_bytes()

    def fail(*_):
        raise error("interrupted")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(error, match="interrupted"):
        treadle.save(treadle.GRU(30, 40, seed=1), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_failed_first_save_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("interrupted")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="interrupted"):
        treadle.save(treadle.GRU(3, 4), tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


KILL = """
import os, sys, treadle
os.replace = lambda *_: os.kill(os.getpid(), 9)
treadle.save(treadle.GRU(30, 40, seed=1), sys.argv[1])
"""


def test_killed_save_keeps_the_old_file(tmp_path):
    """The process dies just before the rename: the old file is whole."""
    path = tmp_path / "m"
    treadle.save(treadle.GRU(3, 4, seed=0), path)
    status, _, _ = child.run(KILL, path)
    assert status == -signal.SIGKILL
    assert repr(treadle.load(path)) == "GRU(3, 4)"
    assert_same_bits(
        list(treadle.load(path).state_dict().values()),
        list(treadle.GRU(3, 4, seed=0).state_dict().values()),
    )


def test_order_of_a_save(tmp_path, monkeypatch):
    """Everything written and on the disk before the name changes, within one folder."""
    path, events = tmp_path / "m", []
    fsync, replace = os.fsync, os.replace

    def traced_fsync(descriptor):
        events.append(("fsync", os.fstat(descriptor).st_ino, os.fstat(descriptor).st_size))
        fsync(descriptor)

    def traced_replace(source, target):
        assert Path(source).parent == Path(target).parent
        events.append(("replace", os.stat(source).st_ino, os.stat(source).st_size))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", traced_fsync)
    monkeypatch.setattr(os, "replace", traced_replace)
    treadle.save(treadle.GRU(3, 4), path)
    written = path.stat().st_ino, path.stat().st_size
    assert events[:2] == [("fsync", *written), ("replace", *written)]


def test_save_over_the_loaded_file(tmp_path):
    path = tmp_path / "m"
    treadle.save(treadle.GRU(3, 4, seed=0), path)
    module = treadle.load(path)
    treadle.save(module, path)
    assert_same_bits(list(treadle.load(path).state_dict().values()),
                     list(module.state_dict().values()))  # fmt: skip
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_save_through_a_link(tmp_path):
    """The link stays a link, and its target is the new model."""
    (tmp_path / "folder").mkdir()
    target, link = tmp_path / "folder" / "m", tmp_path / "link"
    treadle.save(treadle.GRU(3, 4), target)
    link.symlink_to(target)
    treadle.save(treadle.LSTM(3, 4), link)
    assert link.is_symlink()
    assert repr(treadle.load(target)) == "LSTM(3, 4)"


def test_permissions_of_a_saved_file(tmp_path):
    """A saved file has the permissions of the file that it replaces, or of any new file."""
    treadle.save(treadle.GRU(3, 4), tmp_path / "m")
    (tmp_path / "plain").write_bytes(b"")
    assert (tmp_path / "m").stat().st_mode == (tmp_path / "plain").stat().st_mode
    (tmp_path / "m").chmod(0o640)
    treadle.save(treadle.GRU(3, 4), tmp_path / "m")
    assert (tmp_path / "m").stat().st_mode & 0o777 == 0o640


def test_what_is_no_file_is_written_to(tmp_path):
    """A pipe (or /dev/null) stays what it is."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        module = treadle.GRU(3, 4, seed=0)
        treadle.save(module, path)
        assert path.is_fifo()
        (tmp_path / "m").write_bytes(os.read(reader, 2**16))
    finally:
        os.close(reader)
    assert repr(treadle.load(tmp_path / "m")) == repr(module)
    with pytest.raises(IsADirectoryError):
        treadle.save(module, tmp_path)


@pytest.fixture
def windows(monkeypatch):
    """The system seems to be Windows, and keeps a file from being replaced for so many tries."""
    monkeypatch.setattr(files, "_WINDOWS", True)
    monkeypatch.delattr(os, "fchmod")
    replace, pauses = os.replace, []

    def kept_open(tries):
        def refuse(source, target):
            if len(pauses) < tries:
                raise PermissionError(13, "Access is denied", source, 5, target)
            replace(source, target)

        monkeypatch.setattr(os, "replace", refuse)
        monkeypatch.setattr(time, "sleep", pauses.append)
        return pauses

    return kept_open


def test_a_reader_that_is_done_soon_on_windows(tmp_path, windows):
    """The file is replaced when the program that had it open has closed it."""
    path = tmp_path / "m"
    treadle.save(treadle.GRU(3, 4), path)
    pauses = windows(3)
    treadle.save(treadle.LSTM(3, 4), path)
    assert repr(treadle.load(path)) == "LSTM(3, 4)"
    assert len(pauses) == 3
    assert pauses == sorted(pauses)
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize("save", ["layer", "model", "trace"])
def test_a_reader_that_stays_on_windows(tmp_path, windows, save):
    """After about a second an error says what to do; the file is as it was."""
    path = tmp_path / ("m.html" if save == "trace" else "m")
    path.write_bytes(b"before")
    pauses = windows(10**6)
    module = treadle.GRU(3, 4)
    values = [Value(name, "float32", ("n",)) for name in "xy"]
    model = Model(Graph(values[:1], values[1:], [Node("Relu", ["x"], ["y"], {})], {}))
    trace = treadle.trace(module)(samples.normal(0, 5, 2, 3))
    written = {
        "layer": lambda: treadle.save(module, path),
        "model": lambda: treadle.save(model, path),
        "trace": lambda: trace.save(path),
    }
    with pytest.raises(PermissionError, match=r"Close what reads it .* or save under") as found:
        written[save]()
    assert found.value.filename == str(path)
    assert 0.5 < sum(pauses) < 2
    assert path.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_no_second_try_elsewhere(tmp_path, windows, monkeypatch):
    """Other systems do not allow a second later what they refuse now, so save does not wait."""
    pauses = windows(10**6)
    monkeypatch.setattr(files, "_WINDOWS", False)
    with pytest.raises(PermissionError, match="Access is denied"):
        treadle.save(treadle.GRU(3, 4), tmp_path / "m")
    assert pauses == []
    assert list(tmp_path.iterdir()) == []


def test_no_folder_is_opened_on_windows(tmp_path, windows, monkeypatch):
    """Windows opens no folder, and files of bytes only where the flag O_BINARY says so."""
    opened, flags = os.open, []

    def traced(path, flag, mode=0o777, **place):
        assert not os.path.isdir(path)
        flags.append(flag)
        return opened(path, flag & ~(2**40), mode, **place)

    windows(0)
    monkeypatch.setattr(os, "open", traced)
    monkeypatch.setattr(files, "_BINARY", 2**40)
    treadle.save(treadle.GRU(3, 4), tmp_path / "m")
    assert repr(treadle.load(tmp_path / "m")) == "GRU(3, 4)"
    assert [flag & 2**40 for flag in flags] == [2**40]

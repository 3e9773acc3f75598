"""The training examples: the same loss on treadle's modules as on PyTorch's; what they show."""

import argparse
import io
import re
import subprocess
import sys
from contextlib import closing

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import treadle
from treadle.benchmarks.kinds.accuracy.demo import held_out
from treadle.demo import reader as demo


@pytest.fixture(scope="module")
def folder(source):
    """The examples, with their modules importable."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(source / "examples")
        yield source / "examples"


@pytest.fixture(scope="module")
def langid(folder):
    import train_langid

    return train_langid


@pytest.fixture(scope="module")
def show(folder):
    import show_training

    return show_training


@pytest.fixture(scope="module")
def lists(langid, folder, tmp_path_factory):
    """Small word lists in the place of Debian's."""
    directory = tmp_path_factory.mktemp("dict")
    common = langid.read_table(folder / "langid_words.txt")
    unseen = held_out()
    for code, (language, name, encoding) in langid.LANGUAGES.items():
        words = "\n".join([*common[code].split(), *unseen[language], ""])
        (directory / name).write_text(words, encoding=encoding)
    return directory


def test_word_lists(langid, tmp_path):
    (tmp_path / "american-english").write_text(
        "zeal\nAnna\nant's\nI'll\nan\nant\nzeal\n" + 19 * "x"
    )
    assert langid.read_list("en", tmp_path) == ["ant", "zeal"]
    (tmp_path / "ngerman").write_text("Zug\nöde\nÄste\nZug\nzug\nHMO\n", encoding="utf-8")
    assert langid.read_list("de", tmp_path) == ["zug", "äste", "öde"]


@pytest.fixture
def one_thread():
    """As the example itself sets it: PyTorch's threads and treadle's would wait for each other."""
    before = torch.get_num_threads(), treadle.get_num_threads()
    torch.set_num_threads(1)
    treadle.set_num_threads(1)
    yield
    torch.set_num_threads(before[0])
    treadle.set_num_threads(before[1])


@pytest.mark.usefixtures("one_thread")
def test_both_modules_give_the_same_loss(langid, lists):
    """Fifty steps from the same parameters on the same texts, to the rounding of float32."""
    seen, common, _ = langid.read_words(lists, seed=1)
    both = {name: langid.Training(lstm, 50, seed=1) for name, lstm in langid.LSTMS.items()}
    langid.train(both, langid.Texts(seen, common, seed=1), 50)
    losses = {name: np.array(training.losses) for name, training in both.items()}
    assert isinstance(both["treadle"].net.lstm, treadle.torch.LSTM)
    assert type(both["torch"].net.lstm) is torch.nn.LSTM
    assert losses["treadle"][-5:].mean() < losses["treadle"][:5].mean() - 0.3  # it learns
    np.testing.assert_allclose(losses["treadle"], losses["torch"], rtol=1e-4)
    assert (losses["treadle"] != losses["torch"]).any()  # two programs, not one twice


def test_the_command(langid, folder, lists, tmp_path):
    """`--quick --compare --plot` leaves the network of treadle, a picture and both in the log."""
    out, plot = tmp_path / "langid.safetensors", tmp_path / "loss.png"
    script = [sys.executable, folder / "train_langid.py", "--quick", "--steps", "30"]
    command = [*script, "--compare", "--dict", lists, "--out", out, "--plot", plot]
    log = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = re.findall(r"step +(\d+) of 30   treadle: loss (\S+), \d+ s   torch: loss (\S+), ", log)
    assert lines[-1][0] == "30"
    assert all(abs(float(ours) - float(theirs)) < 2e-4 for _, ours, theirs in lines)
    apart = re.search(r"differ by at most (\S+) in the first 30 steps, by \1 in all 30\n", log)
    assert 0 < float(apart[1]) < 1e-4
    assert re.search(r"\ntreadle [\d.]+ s, torch [\d.]+ s: [\d.]+ times\n", log)
    assert plot.read_bytes().startswith(b"\x89PNG")
    shapes = {name: tensor.shape for name, tensor in load_file(out).items()}
    data = demo.files("treadle.demo") / "langid.safetensors"
    assert shapes == {name: tensor.shape for name, tensor in load_file(data).items()}


def test_missing_word_lists(langid, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train_langid.py", "--dict", str(tmp_path)])
    with pytest.raises(SystemExit):
        langid.main()
    assert "american-english, french" in capsys.readouterr().err


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(module, monkeypatch, stream, **options):
    monkeypatch.setattr(sys, "stderr", stream)
    with closing(module.Live(2, "step", **options)) as live:
        live.update("loss 2.5000")
        live.say("a line that stays")
        live.update("loss 1.2500")
    return stream.getvalue()


def test_live_line(show, monkeypatch, capsys):
    """On a terminal only; lines that stay go to standard output."""
    line = shown(show, monkeypatch, Terminal())
    assert "2/2" in line
    assert "step/s" in line
    assert "loss 1.2500" in line
    assert shown(show, monkeypatch, io.StringIO()) == ""
    assert shown(show, monkeypatch, Terminal(), show=False) == ""
    assert capsys.readouterr().out == 3 * "a line that stays\n"


def test_without_tqdm(show, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert "pip install tqdm" in shown(show, monkeypatch, Terminal())
    assert shown(show, monkeypatch, io.StringIO()) == ""
    assert capsys.readouterr().out == 2 * "a line that stays\n"


def test_without_matplotlib(show, monkeypatch):
    for name in ("matplotlib", "matplotlib.figure"):  # which another test may have imported
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(argparse.ArgumentTypeError, match=r"pip install treadle\[plot\]"):
        show.picture("loss.png")


def test_pictures(show, tmp_path):
    path = show.picture(str(tmp_path / "loss.svg"))
    curves = {"treadle": np.geomspace(2, 0.5, 1000).tolist(), "torch": [1.0, 0.5]}
    show.draw(path, "A title", "step", curves)
    assert "</svg>" in path.read_text()
    for wrong in ("loss", "loss.safetensors", "missing/loss.png"):
        with pytest.raises(argparse.ArgumentTypeError, match=re.escape(wrong.partition("/")[0])):
            show.picture(str(tmp_path / wrong))

"""Programs of users that open a model by a relative path, as the lines of model cards do."""

import os
import pickle

import numpy as np
import pytest

from support import checkpoints
from support.checkpoints import MINILM
from support.tolerance import assert_same_bits
from treadle.cli.main import main
from treadle.transformers import AutoModel, AutoTokenizer, SentenceTransformer

WANTED = SentenceTransformer(MINILM).encode("A treadle.")


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """The working directory has the model's directory in it, under the name "minilm"."""
    checkpoints.minilm_copied(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("path", ["minilm", "./minilm", "minilm/", "minilm/../minilm"])
def test_a_relative_directory(beside, path):
    """A program with SentenceTransformer("models/minilm"): the directory was joined to itself."""
    assert_same_bits(SentenceTransformer(path).encode("A treadle."), WANTED)


def test_the_working_directory(beside, monkeypatch):
    monkeypatch.chdir(beside / "minilm")
    assert_same_bits(SentenceTransformer(".").encode("A treadle."), WANTED)


def test_a_pickle_survives_another_working_directory(beside, monkeypatch):
    """A program that loads by a relative path and hands the objects to worker processes, which
    may run elsewhere."""
    model = SentenceTransformer("minilm")
    objects = [model, AutoModel.from_pretrained("minilm"), AutoTokenizer.from_pretrained("minilm")]
    pickles = [pickle.dumps(one) for one in objects]
    (beside / "elsewhere").mkdir()
    monkeypatch.chdir(beside / "elsewhere")
    twin, encoder, tokenizer = map(pickle.loads, pickles)
    assert_same_bits(twin.encode("A treadle."), WANTED)
    ids = tokenizer("A treadle.", return_tensors="np")
    assert_same_bits(encoder(**ids)[0], objects[1](**ids)[0])


def test_a_link_that_is_left_by_two_dots(beside, monkeypatch):
    """The operating system goes up from where a link leads, not from where it lies."""
    (beside / "deep" / "inside").mkdir(parents=True)
    os.symlink(beside / "minilm", beside / "deep" / "model")
    os.symlink(beside / "deep" / "inside", beside / "link")
    assert_same_bits(SentenceTransformer("link/../model").encode("A treadle."), WANTED)


def test_commands_open_a_relative_directory(beside, capsys):
    """The commands are run where the model lies: treadle embed minilm, treadle search minilm."""
    (beside / "lines.txt").write_text("A treadle.\nInterest rates rise.\n")
    assert main(["embed", "minilm", "--input", "lines.txt", "--output", "e.npy"]) == 0
    assert_same_bits(np.load("e.npy")[0], WANTED)
    capsys.readouterr()
    assert main(["search", "minilm", "a pedal of a loom", "--input", "lines.txt"]) == 0
    assert "A treadle." in capsys.readouterr().out.splitlines()[0]

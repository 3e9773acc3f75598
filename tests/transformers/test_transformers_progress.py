"""The progress bar of SentenceTransformer.encode: on demand, or on a terminal if it takes long."""

import io
import sys

from test_transformers_sentence import MODEL

from support import child
from support.checkpoints import MINILM


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(monkeypatch, stream, **options):
    monkeypatch.setattr(sys, "stderr", stream)
    MODEL.encode(["a"] * 20, batch_size=2, **options)
    return "" if stream is None else stream.getvalue()


def test_progress_bar(monkeypatch):
    """On demand; of itself only on a terminal, on long work."""
    assert "20/20" in shown(monkeypatch, io.StringIO(), show_progress_bar=True)
    assert shown(monkeypatch, Terminal(), show_progress_bar=False) == ""
    assert shown(monkeypatch, io.StringIO()) == ""
    assert shown(monkeypatch, None) == ""
    assert shown(monkeypatch, Terminal()).strip() == ""  # it took no two seconds
    monkeypatch.setattr("treadle.transformers.progress._DELAY", 0.0)
    assert "20/20" in shown(monkeypatch, Terminal())


WITHOUT_TQDM = """
import sys
sys.modules["tqdm"] = None
from treadle.transformers import SentenceTransformer
model = SentenceTransformer(sys.argv[1])
model.encode(["a"] * 20, batch_size=1)
try:
    model.encode(["a"], show_progress_bar=True)
except ImportError as error:
    print(error)
"""


def test_without_tqdm():
    assert "treadle[transformers]" in child.succeed(WITHOUT_TQDM, MINILM)

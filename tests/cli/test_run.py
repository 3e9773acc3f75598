"""treadle run: the tasks of pipelines on the command line."""

import io
import json
import sys

import pytest

from support import pipeline_writers
from support.checkpoints import MINILM
from support.pipeline_checks import TAGS, TEXTS, directory, labels
from treadle.cli.main import main
from treadle.transformers import pipeline

SEQUENCE = "SequenceClassification"


def run(capsys, *arguments):
    status = main(["run", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_texts_and_json(capsys):
    """A line of JSON for each text has what the pipeline returns."""
    path = directory("bert", SEQUENCE)
    expected = pipeline("text-classification", path, top_k=2)(TEXTS)
    arguments = ("text-classification", path, *TEXTS, "--set", "top_k=2")
    status, out, err = run(capsys, *arguments, "--json")
    assert (status, err) == (0, "")
    assert [json.loads(line) for line in out.splitlines()] == expected
    status, out, err = run(capsys, *arguments)
    assert (status, err) == (0, "")
    first = out.splitlines()[0].split(maxsplit=2)
    assert first == [f"{expected[0][0]['score']:.3f}", expected[0][0]["label"], TEXTS[0]]
    assert len(out.splitlines()) == 2 * len(TEXTS)


def test_lines_of_a_file_and_of_standard_input(capsys, tmp_path, monkeypatch):
    path, source = directory("bert", SEQUENCE), tmp_path / "lines.txt"
    source.write_text("\n".join(TEXTS) + "\n")
    expected = run(capsys, "sentiment-analysis", path, *TEXTS)
    assert run(capsys, "sentiment-analysis", path, "--file", source) == expected
    assert run(
        capsys, "sentiment-analysis", path, "--file", source, "--batch-size", 3
    ) == expected  # fmt: skip
    for more in ([], ["--file", "-"]):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(source.read_bytes())))
        assert run(capsys, "sentiment-analysis", path, *more) == expected


def test_texts_that_are_written(capsys):
    """A summary or a text that goes on is a line of its own."""
    text, options = TEXTS[0], ("--set", "num_beams=1", "--set", "max_new_tokens=5")
    path = pipeline_writers.directory("bart")
    expected = pipeline("summarization", path)(text, num_beams=1, max_new_tokens=5)
    assert run(capsys, "summarization", path, *options, text) == (
        0, expected[0]["summary_text"] + "\n", "",
    )  # fmt: skip
    ids = expected = pipeline("summarization", path)(
        text, num_beams=1, max_new_tokens=5, return_tensors=True
    )[0]["summary_token_ids"]
    _, out, _ = run(capsys, "summarization", path, *options, "--set", "return_tensors=true", text)
    assert out.split() == [str(number) for number in ids]


def test_readable_lines(capsys):
    """Each task has lines with the score first, and the place in the text."""
    path = directory("bert", "TokenClassification", **labels(*TAGS))
    simple = ("--set", "aggregation_strategy=simple")
    entity = pipeline("ner", path, aggregation_strategy="simple")(TEXTS[1])[0]
    _, out, _ = run(capsys, "ner", path, TEXTS[1], *simple)
    score, tag, place, *_ = out.splitlines()[0].split()
    assert (score, tag) == (f"{entity['score']:.3f}", entity["entity_group"])
    assert place == f"{entity['start']}-{entity['end']}"
    assert out.splitlines()[0].endswith(TEXTS[1][entity["start"] : entity["end"]])
    path = directory("bert", "QuestionAnswering")
    _, out, _ = run(capsys, "question-answering", path, "Who?", "Where?", "--context", TEXTS[1])
    answer = pipeline("question-answering", path)("Who?", TEXTS[1])
    assert out.splitlines()[0].endswith(f"{answer['start']}-{answer['end']}  {answer['answer']}")
    assert len(out.splitlines()) == 2
    _, out, _ = run(capsys, "fill-mask", directory("bert", "MaskedLM"), "a [MASK] [MASK]")
    assert len(out.splitlines()) == 5 + 1 + 5
    path = directory("bert", SEQUENCE, **labels("contradiction", "entailment"))
    _, out, _ = run(capsys, "zero-shot-classification", path, "a", "--labels", "one, two")
    assert {line.split()[1] for line in out.splitlines()} == {"one", "two"}
    _, out, _ = run(capsys, "feature-extraction", MINILM, "A loom.")
    assert out == "6 vectors of 384 numbers; --json shows them\n"
    _, out, _ = run(capsys, "feature-extraction", MINILM, "--json", "--dtype", "int8", "A loom.")
    assert len(json.loads(out)[0]) == 6


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        (("nothing", MINILM), "text-classification, token-classification"),
        (("ner", MINILM), "which offers feature-extraction"),
        (("ner", "no/such"), "no/such"),
        (("feature-extraction", "{tmp}"), "config.json"),
        (("feature-extraction", MINILM, "--set", "top_k=3"), "no argument 'top_k'"),
        (("feature-extraction", MINILM, "--set", "top_k"), "NAME=VALUE"),
    ],
)
def test_directories_that_lie(capsys, tmp_path, arguments, culprit):
    """One line on standard error, and the exit code 2, before any text is read."""
    arguments = [str(a).replace("{tmp}", str(tmp_path)) for a in arguments]
    status, out, err = run(capsys, *arguments, "A text.")
    assert (status, out) == (2, "")
    assert culprit in err
    assert err.startswith("treadle")
    assert len(err.splitlines()) == 1


def test_damaged_files(capsys, tmp_path):
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        path = tmp_path / name.partition(".")[0]
        path.mkdir()
        for file in directory("bert").iterdir():
            (path / file.name).write_bytes(file.read_bytes())
        (path / name).write_bytes(b'{"model_type": "bert", "hidden_size": -1\n}')
        status, out, err = run(capsys, "feature-extraction", path, "a")
        assert (status, out) == (2, "")
        assert len(err.splitlines()) == 1


def test_wrong_texts_and_options(capsys, tmp_path):
    """A fault of a text or an option of the command has the exit code 1."""
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"fine\n\xff\xfe\n")
    answers = directory("bert", "QuestionAnswering")
    for arguments, culprit in (
        (("feature-extraction", MINILM, "a", "--file", bad), "either of them"),
        (("feature-extraction", MINILM, "--file", tmp_path / "none"), "none"),
        (("feature-extraction", MINILM, "--file", bad), "line 2"),
        (("feature-extraction", MINILM, "word " * 600), "expected at most 512"),
        (("question-answering", answers, "Who?"), "--context"),
        (("feature-extraction", MINILM, "a \udcff"), "no Unicode"),
    ):
        status, _, err = run(capsys, *arguments)
        assert status == 1
        assert culprit in err
        assert err.startswith("treadle")
        assert len(err.splitlines()) == 1


def test_texts_before_and_after_options(capsys):
    """A text may stand behind an option, and an option that does not exist is none."""
    path = directory("bert", SEQUENCE)
    expected = run(capsys, "sentiment-analysis", path, "a", "b", "c", "--json")
    assert run(capsys, "sentiment-analysis", path, "--json", "a", "b", "c") == expected
    assert run(capsys, "sentiment-analysis", path, "a", "--json", "b", "c") == expected
    for words in (["run", "ner", str(path), "--nothing"], ["info", "a", "b"]):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 2
        assert "unrecognized arguments" in capsys.readouterr().err

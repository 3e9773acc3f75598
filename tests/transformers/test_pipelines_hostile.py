"""Wrong tasks, directories, inputs and options of pipelines: an error that says what to do."""

import json
import shutil
from itertools import pairwise

import numpy as np
import pytest
import torch
from test_pipelines_calls import TASKS, made

from support import checkpoints
from support.pipeline_checks import LENGTH, LONG, POSITIONS, TAGS, directory, labels
from treadle.transformers import pipeline

SEQUENCE, TOKEN = "SequenceClassification", "TokenClassification"


@pytest.mark.parametrize("task", ["", "translate", 7, None, ["ner"]])
def test_unknown_tasks(task, tmp_path):
    """The message lists the tasks."""
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"task is .*text-classification, .*feature-extraction"):
        pipeline(task, tmp_path)


@pytest.mark.parametrize(
    ("task", "head", "offers"),
    [
        ("text-classification", "", "a BertModel, which offers feature-extraction, expected"),
        ("ner", SEQUENCE, "offers text-classification, zero-shot-classification, feature-"),
        ("sentiment-analysis", TOKEN, "offers token-classification, feature-extraction"),
        ("question-answering", "MaskedLM", "offers fill-mask, feature-extraction"),
        ("fill-mask", "QuestionAnswering", "offers question-answering, feature-extraction"),
        ("zero-shot-classification", TOKEN, "...ForSequenceClassification for this task"),
    ],
)
def test_directories_for_other_tasks(task, head, offers):
    """Tensors of a head may have the names of another one: config.json tells them apart."""
    with pytest.raises(ValueError, match=offers.replace("...", r"\.\.\.")):
        pipeline(task, directory("bert", head))


def test_unknown_architectures(tmp_path):
    """Where config.json names no class that is known, the tensors tell."""
    for names in (["MyOwnNet"], None, 7, [7]):
        path = changed(tmp_path, SEQUENCE, architectures=names)
        assert pipeline("text-classification", path)("a")[0]["label"] in ("never", "maybe", "often")
        with pytest.raises(ValueError, match=r"no tensor qa_outputs\.weight"):
            pipeline("question-answering", path)
        with pytest.raises(ValueError, match=r"task is None|task"):
            pipeline(None, changed(tmp_path, SEQUENCE, architectures=None))


def changed(tmp_path, head="", **entries):
    """A copy of a directory, whose config.json has other entries."""
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}"
    shutil.copytree(directory("bert", head), path)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | entries))
    return path


def test_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="no directory"):
        pipeline("ner", tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        pipeline("ner", tmp_path)
    with pytest.raises(TypeError, match="model is None"):
        pipeline("ner")
    path = changed(tmp_path)
    (path / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json"):
        pipeline("feature-extraction", path)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"id2label": {"0": "a", "2": "b"}}, "keys of id2label"),
        ({"id2label": {"0": "a", "1": "b"}}, "shape"),
        ({"id2label": {}, "label2id": {}}, "0 labels"),
        ({"problem_type": "guessing"}, "problem_type of config.json is 'guessing'"),
        ({"problem_type": ["regression"]}, "problem_type"),
    ],
)
def test_label_maps_that_lie(tmp_path, entries, message):
    with pytest.raises(ValueError, match=message):
        pipeline("text-classification", changed(tmp_path, SEQUENCE, **entries))


def test_entailment_that_lies(tmp_path):
    path = changed(tmp_path, SEQUENCE, label2id={"entailment": 9})
    with pytest.raises(ValueError, match=r"label2id of config\.json has the number 9"):
        pipeline("zero-shot-classification", path)
    one = directory("bert", SEQUENCE, **labels("entailment"))
    with pytest.raises(ValueError, match="1 label"):
        pipeline("zero-shot-classification", one)


@pytest.fixture(params=TASKS)
def task(request):
    return request.param


@pytest.mark.parametrize("wrong", [None, 7, b"text", bytearray(b"x"), {"a": 1}, [None], [b"a"]])
def test_inputs_that_are_no_texts(task, wrong):
    pipe, _ = made(task)
    with pytest.raises(TypeError, match=r"inputs has .*expected"):
        pipe(wrong)


def test_texts_that_are_no_unicode(task):
    pipe, one = made(task)
    text = "a \ud800 b"
    wrong = one | {"context": text} if isinstance(one, dict) else text
    for inputs in (wrong, [one, wrong]):
        with pytest.raises(ValueError, match="no Unicode"):
            pipe(inputs)


def test_options_that_do_not_exist(task):
    pipe, one = made(task)
    with pytest.raises(TypeError, match=r"no argument 'batchsize': did you mean batch_size"):
        pipe(one, batchsize=3)
    with pytest.raises(TypeError, match=r"no argument 'tok_p'"):
        made(task, tok_p=3)


@pytest.mark.parametrize(
    ("task", "name", "value"),
    [
        ("text-classification", "batch_size", 0),
        ("text-classification", "num_workers", -1),
        ("text-classification", "show_progress_bar", "yes"),
        ("text-classification", "top_k", 0),
        ("text-classification", "top_k", 1.5),
        ("text-classification", "function_to_apply", "tanh"),
        ("text-classification", "truncation", "sometimes"),
        ("token-classification", "aggregation_strategy", "all"),
        ("token-classification", "aggregation_strategy", 3),
        ("token-classification", "ignore_labels", "O"),
        ("token-classification", "stride", -1),
        ("token-classification", "stride", LENGTH),
        ("token-classification", "stride", LENGTH - 1),
        ("token-classification", "is_split_into_words", 1),
        ("token-classification", "delimiter", 1),
        ("question-answering", "top_k", 0),
        ("question-answering", "max_answer_len", 0),
        ("question-answering", "max_seq_len", POSITIONS + 1),
        ("question-answering", "max_seq_len", 3),
        ("question-answering", "doc_stride", 67),
        ("question-answering", "max_question_len", 0),
        ("question-answering", "align_to_words", None),
        ("fill-mask", "top_k", 10**6),
        ("fill-mask", "targets", []),
        ("fill-mask", "targets", 3),
        ("fill-mask", "tokenizer_kwargs", {"return_tensors": "pt"}),
        ("zero-shot-classification", "candidate_labels", []),
        ("zero-shot-classification", "candidate_labels", " , "),
        ("zero-shot-classification", "candidate_labels", {"a": 1}),
        ("zero-shot-classification", "candidate_labels", [1]),
        ("zero-shot-classification", "hypothesis_template", "This is it."),
        ("zero-shot-classification", "hypothesis_template", "{} {}"),
        ("zero-shot-classification", "hypothesis_template", "{0.nothing}"),
        ("zero-shot-classification", "hypothesis_template", "{"),
        ("zero-shot-classification", "hypothesis_template", None),
        ("zero-shot-classification", "multi_label", "no"),
        ("feature-extraction", "return_tensors", "np"),
        ("feature-extraction", "tokenize_kwargs", {"return_tensors": "pt"}),
    ],
)
def test_values_that_cannot_be(task, name, value):
    pipe, one = made(task)
    options = {"aggregation_strategy": "none"} if value == 0 else {}
    with pytest.raises((TypeError, ValueError), match=r"^treadle\.transformers\.\w+"):
        pipe(one, **options | {name: value})


def test_stride_needs_a_strategy():
    pipe, one = made("token-classification", aggregation_strategy="none")
    with pytest.raises(ValueError, match="aggregation_strategy is 'none'"):
        pipe(one, stride=3)


def test_truncation_given_twice():
    pipe, one = made("feature-extraction")
    with pytest.raises(ValueError, match="given twice"):
        pipe(one, truncation=True, tokenize_kwargs={"truncation": True})


def test_empty_texts():
    """A text of special tokens alone has an answer where it can have one."""
    assert len(made("text-classification")[0]("")) == 1
    assert made("token-classification")[0]("") == []
    assert np.shape(made("feature-extraction")[0]("")) == (1, 2, 36)
    for task in ("fill-mask", "zero-shot-classification"):
        with pytest.raises(ValueError, match="expected"):
            made(task)[0]("")
    answer = made("question-answering")[0]
    for name in ("question", "context"):
        with pytest.raises(ValueError, match=f"{name} is empty"):
            answer({"question": "a", "context": "b"} | {name: ""})
    assert answer({"question": "a", "context": " \n "}) == []
    with pytest.raises(TypeError, match="beside inputs"):
        answer({"question": "a", "context": "b"}, question="a")


def test_texts_without_any_token(tmp_path):
    """A tokenizer without special tokens makes no token of an empty text."""
    for head in ("", SEQUENCE, TOKEN):
        path = changed(tmp_path, head)
        content = json.loads((path / "tokenizer.json").read_text())
        content["post_processor"] = None
        (path / "tokenizer.json").write_text(json.dumps(content))
        if head == SEQUENCE:
            with pytest.raises(ValueError, match="without tokens"):
                pipeline("text-classification", path)("")
        elif head == TOKEN:
            assert pipeline("token-classification", path)(["", "a"])[0] == []
        else:
            found = pipeline("feature-extraction", path)(["", "a"])
            assert [len(vectors[0]) for vectors in found] == [0, 1]
            assert pipeline("feature-extraction", path)("") == [[]]


def test_long_texts(task):
    """They are refused where nothing says to cut them, or cut, or read in rows."""
    text = "a loom " * (150_000 if task == "token-classification" else 10_000)
    pipe, _ = made(task)
    if task == "question-answering":
        found = pipe(question="a", context=text)
        assert text[found[0]["start"] : found[0]["end"]] == found[0]["answer"]
        return
    if task in ("token-classification", "zero-shot-classification"):
        pipe(text)  # both cut it off
        return
    with pytest.raises(ValueError, match=f"expected at most {POSITIONS}.*truncation=True"):
        pipe("[MASK] " + text)
    name = {"fill-mask": "tokenizer_kwargs", "feature-extraction": "tokenize_kwargs"}.get(task)
    pipe("[MASK] " + text, **{name: {"truncation": True}} if name else {"truncation": True})


def test_long_texts_in_rows():
    """Rows of a long text give entities of all of it."""
    path = directory("bert", TOKEN, **labels(*TAGS))
    ner = pipeline("ner", path, aggregation_strategy="simple", stride=8, ignore_labels=[])
    text = (LONG + " ") * 20
    found = ner(text)
    assert found[-1]["end"] == len(text.rstrip())
    assert all(a["end"] <= b["start"] for a, b in pairwise(found))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_scores_that_are_not_finite(tmp_path, task, number):
    """No answer is made of them; the vectors of feature-extraction are shown as they are."""
    head, changes, one, options = TASKS[task]
    path = tmp_path / "model"
    shutil.copytree(directory("bert", head, **changes), path)
    tensors = checkpoints.weights(path)
    last = [name for name in tensors if tensors[name].ndim == 1][-1]
    heads = ("classifier.bias", "qa_outputs.bias", "cls.predictions.bias")
    name = next((name for name in heads if name in tensors), last)
    tensors[name] = torch.full_like(tensors[name], number)
    checkpoints.write(path, tensors)
    if task == "feature-extraction":
        return
    with pytest.raises(ValueError, match="are not all finite"):
        pipeline(task, path, **options)(one)


def test_no_mask_in_the_text_or_the_tokenizer(tmp_path):
    pipe, _ = made("fill-mask")
    with pytest.raises(ValueError, match=r"expected the mask \[MASK\] in it"):
        pipe("No place for a word.")
    path = tmp_path / "model"
    shutil.copytree(directory("bert", "MaskedLM"), path)
    (path / "tokenizer_config.json").write_text(json.dumps({"mask_token": None}))
    with pytest.raises(ValueError, match="no mask_token"):
        pipeline("fill-mask", path)

"""Calls of pipelines: one input, lists, streams, blocks, options, pickles, threads, the bar."""

import io
import itertools
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import treadle
from support.pipeline_checks import TAGS, TEXTS, directory, labels
from treadle import transformers
from treadle.transformers import AutoModel, AutoTokenizer, pipeline

SEQUENCE, TOKEN = "SequenceClassification", "TokenClassification"
QUESTION = {"question": "Where?", "context": TEXTS[1]}
# Each task with a head and an input of its own.
TASKS = {
    "text-classification": (SEQUENCE, {}, TEXTS[0], {}),
    "token-classification": (TOKEN, labels(*TAGS), TEXTS[1], {"aggregation_strategy": "simple"}),
    "question-answering": ("QuestionAnswering", {}, QUESTION, {"top_k": 3}),
    "fill-mask": ("MaskedLM", {}, "The [MASK] is taut.", {}),
    "zero-shot-classification": (
        SEQUENCE, labels("contradiction", "entailment"), TEXTS[0], {"candidate_labels": "a,b"},
    ),
    "feature-extraction": ("", {}, TEXTS[2], {"return_tensors": False}),
}  # fmt: skip


def made(task, **options):
    head, changes, one, own = TASKS[task]
    return pipeline(task, directory("bert", head, **changes), **own | options), one


def other(task, text):
    """Another input of the task, with the text in it."""
    if task == "question-answering":
        return {"question": "What?", "context": text}
    return text + " [MASK]" if task == "fill-mask" else text


@pytest.fixture(params=TASKS)
def task(request):
    return request.param


def test_same_bits_alone_and_in_any_list(task):
    """Lists, blocks of any size and any number of threads give the answers of inputs alone."""
    pipe, one = made(task)
    inputs = [one, *(other(task, text) for text in TEXTS), one]
    options = {"top_k": None} if task == "text-classification" else {}
    alone = [pipe(item, **options) for item in inputs]
    for size in (None, 1, 2, 5):
        assert pipe(inputs, batch_size=size, **options) == alone
    assert pipe(tuple(inputs), **options) == alone
    before = treadle.get_num_threads()
    treadle.set_num_threads(1)
    try:
        assert pipe(inputs, **options) == alone
    finally:
        treadle.set_num_threads(before)


def test_streams_are_lazy(task):
    """A stream takes an input, or batch_size of them, for each answer that is asked for."""
    pipe, one = made(task)
    taken = []

    def endless():
        for number in itertools.count():
            taken.append(number)
            yield one

    for size, expected in ((None, [1, 2, 3, 4]), (3, [3, 3, 3, 6])):
        taken.clear()
        stream = pipe(endless(), batch_size=size)
        assert taken == []
        answers = []
        for count in expected:
            answers.append(next(stream))
            assert len(taken) == count
        assert all(answer == answers[0] for answer in answers)
    assert list(pipe(iter([]))) == []
    assert pipe([]) == []


def test_arrays_of_texts():
    pipe, _ = made("text-classification")
    assert pipe(np.array(TEXTS)) == pipe(TEXTS)


def test_options_of_a_call_win():
    pipe, one = made("text-classification", top_k=2)
    assert len(pipe(one)[0]) == 2  # a list in a list, as in Transformers
    assert len(pipe(one, top_k=1)) == 1
    assert len(pipe(one)[0]) == 2


@pytest.mark.filterwarnings("ignore:.*words.*:UserWarning")
def test_pickles_and_threads(task):
    pipe, one = made(task)
    expected = pipe(one)
    assert pickle.loads(pickle.dumps(pipe))(one) == expected
    with ThreadPoolExecutor(4) as threads:
        assert all(answer == expected for answer in threads.map(pipe, [one] * 12))


def test_classes_are_public(task):
    pipe, _ = made(task)
    assert type(pipe) is getattr(transformers, type(pipe).__name__)
    assert isinstance(pipe, transformers.Pipeline)
    assert repr(pipe).startswith(f"{type(pipe).__name__}({task!r}, AutoModel")
    with pytest.raises(TypeError, match="made by pipeline"):
        type(pipe)()


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_low_precision(dtype):
    pipe, one = made("text-classification")
    found = pipeline("text-classification", pipe.model._directory, dtype=dtype)(one, top_k=None)
    exact = {entry["label"]: entry["score"] for entry in pipe(one, top_k=None)}
    assert {entry["label"] for entry in found} == set(exact)
    assert found[0]["score"] != exact[found[0]["label"]]
    np.testing.assert_allclose(sum(entry["score"] for entry in found), 1, rtol=1e-6)


def test_models_that_are_loaded():
    """A model of a class gives the tasks of that class, with the tokenizer beside it or another."""
    path = directory("bert")
    model = AutoModel.from_pretrained(path)
    expected = pipeline("feature-extraction", path)("a")
    assert pipeline("feature-extraction", model)("a") == expected
    assert pipeline(None, model, tokenizer=AutoTokenizer.from_pretrained(path))("a") == expected
    assert pipeline(model=path, tokenizer=path, device=-1)("a") == expected
    with pytest.raises(TypeError, match="model is a AutoModel, expected a AutoModelForMaskedLM"):
        pipeline("fill-mask", model)
    with pytest.raises(ValueError, match="dtype is 'int8'"):
        pipeline("feature-extraction", model, dtype="int8")


@pytest.mark.parametrize(
    ("head", "expected"),
    [(SEQUENCE, "text-classification"), ("MaskedLM", "fill-mask"), ("", "feature-extraction")],
)
def test_the_first_task_of_a_directory(head, expected):
    assert pipeline(model=directory("roberta", head)).task == expected


def test_progress_bar(monkeypatch):
    """Lists show a bar on demand, with the task's name; streams show none."""
    pipe, one = made("text-classification")
    for show, text in ((True, "text-classification: 100%"), (None, ""), (False, "")):
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        pipe([one] * 20, batch_size=2, show_progress_bar=show)
        assert text in stream.getvalue()
        assert bool(text) == bool(stream.getvalue())

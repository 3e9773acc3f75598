"""Pipelines answer as those of Transformers: the tasks that need one pass through an encoder."""

import numpy as np
import pytest

from reference import answers as reference
from support import checkpoints
from support.pipeline_checks import (
    FAMILIES,
    LONG,
    TAGS,
    TEXTS,
    compare,
    directory,
    labels,
    same,
    theirs,
)
from treadle.transformers import AutoTokenizer, pipeline
from treadle.transformers.pipelines import entities, ranking, spans

SEQUENCE, TOKEN = "SequenceClassification", "TokenClassification"
PAIR = {"text": TEXTS[0], "text_pair": TEXTS[2]}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("inputs", "options"),
    [
        (TEXTS, {}),
        (TEXTS[0], {}),
        ("", {}),
        (TEXTS[0], {"top_k": 2}),
        (TEXTS, {"top_k": None}),
        (PAIR, {"function_to_apply": "sigmoid"}),
        ([PAIR, TEXTS[1]], {"top_k": 1, "function_to_apply": "NONE"}),
        (LONG, {"truncation": True, "max_length": 20}),
        ([[[TEXTS[0], TEXTS[2]]]], {}),
    ],
)
def test_text_classification(family, inputs, options):
    compare("text-classification", directory(family, SEQUENCE), SEQUENCE, inputs, **options)


@pytest.mark.parametrize(
    "changes",
    [
        {"problem_type": "multi_label_classification"},
        {"problem_type": "single_label_classification"},
        {"problem_type": "regression"},
        labels("good"),
        {"problem_type": "regression", **labels("stars")},
    ],
)
def test_functions_of_problems(changes):
    """The function of scores depends on a model's labels and on its problem_type."""
    path = directory("bert", SEQUENCE, **changes)
    compare("text-classification", path, SEQUENCE, TEXTS, top_k=None)
    compare("sentiment-analysis", path, SEQUENCE, TEXTS[0])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("strategy", entities.STRATEGIES)
@pytest.mark.filterwarnings("ignore:.*words.*:UserWarning")
def test_token_classification(family, strategy):
    path = directory(family, TOKEN, **labels(*TAGS))
    options = {"aggregation_strategy": strategy}
    found = compare("token-classification", path, TOKEN, TEXTS, **options)
    assert any(found)
    compare("ner", path, TOKEN, TEXTS[1], ignore_labels=["PER", "I-PER"], **options)
    compare("ner", path, TOKEN, LONG, **options)  # cut off at model_max_length
    if strategy != "none":
        assert len(compare("ner", path, TOKEN, LONG, stride=7, **options)) > 5


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_token_classification_of_words(family):
    path = directory(family, TOKEN, **labels(*TAGS))
    words = TEXTS[1].split()
    options = {"is_split_into_words": True, "aggregation_strategy": "simple"}
    compare("token-classification", path, TOKEN, words, **options)
    found = compare(
        "token-classification", path, TOKEN, [words, words[:2]], delimiter="--", **options
    )
    joined = "--".join(words)
    assert all(joined[e["start"] : e["end"]].strip("-") in joined for e in found[0])


def test_offsets_are_places_in_the_text():
    """Words keep their accents and capitals where start and end point."""
    ner = pipeline("ner", directory("bert", TOKEN, **labels(*TAGS)), ignore_labels=[])
    for text in TEXTS:
        for entity in ner(text):
            part = text[entity["start"] : entity["end"]]
            assert len(part) >= 1
            assert (entity["word"].removeprefix("##") == part.lower()) or not part.isascii()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"top_k": 3, "max_answer_len": 4},
        {"top_k": 2, "align_to_words": False},
        {"handle_impossible_answer": True, "top_k": 4},
        {"max_seq_len": 40, "doc_stride": 10, "top_k": 3},
    ],
)
def test_question_answering(family, options):
    """The specification goes through all spans one by one, with Transformers' model in float64."""
    path = directory(family, "QuestionAnswering")
    answer = pipeline("question-answering", path)
    for question, context in (("Where did Ada live?", TEXTS[1]), ("What?", LONG), ("a", TEXTS[4])):
        found = answer(question=question, context=context, **options)
        texts = (question, context)
        run = lambda pipe, t=texts: reference.answer(pipe.model, pipe.tokenizer, t, **options)
        same(found, theirs("feature-extraction", path, "QuestionAnswering"), run)
        for one in found if isinstance(found, list) else [found]:
            assert context[one["start"] : one["end"]] == one["answer"]


def test_forms_of_questions():
    """A question comes by names, as two texts, as a dict, in lists, or from a generator."""
    answer = pipeline("question-answering", directory("bert", "QuestionAnswering"))
    question, context = "Where did Ada live?", TEXTS[1]
    one = {"question": question, "context": context}
    expected = answer(question=question, context=context)
    assert set(expected) == {"score", "start", "end", "answer"}
    assert answer(question, context) == answer(one) == answer([one]) == expected
    assert answer([one, one]) == [expected] * 2
    assert answer(question=[question, "x"], context=context)[0] == expected
    assert answer(question=[question, "x"], context=[context, LONG])[0] == expected
    assert list(answer(item for item in [one, one])) == [expected] * 2
    with pytest.raises(ValueError, match="2 questions and 3 contexts"):
        answer(question=["a", "b"], context=["a", "b", "c"])


def test_long_questions_are_cut_on_demand():
    answer = pipeline("question-answering", directory("bert", "QuestionAnswering"))
    question = "a b c d " * 40
    with pytest.raises(ValueError, match="truncation cannot shorten"):
        answer(question=question, context=TEXTS[0])
    cut = answer(question=question, context=TEXTS[0], max_question_len=6)
    assert cut == answer(question="a b c d a b", context=TEXTS[0])


@pytest.mark.parametrize("family", FAMILIES)
def test_fill_mask(family):
    path = directory(family, "MaskedLM")
    mask = AutoTokenizer.from_pretrained(path).mask_token
    texts = [f"The warp {mask} is taut.", f"{mask} loom, {mask} weft"]
    compare("fill-mask", path, "MaskedLM", texts[0])
    compare("fill-mask", path, "MaskedLM", [texts[0]])
    assert len(compare("fill-mask", path, "MaskedLM", texts, top_k=3)[1]) == 2
    compare("fill-mask", path, "MaskedLM", texts[0], targets=["a", "e", "t"])
    compare("fill-mask", path, "MaskedLM", texts[1], targets="a", top_k=7)
    options = {"truncation": True, "max_length": 12}
    compare("fill-mask", path, "MaskedLM", texts[1] + LONG, tokenizer_kwargs=options)


def test_targets_that_are_no_tokens():
    path = directory("bert", "MaskedLM")
    fill = pipeline("fill-mask", path)
    with pytest.warns(UserWarning, match="first token is taken"):
        found = fill("The [MASK].", targets=["xylophone", "a"])
    assert {entry["token_str"] for entry in found} == {"x", "a"}
    with (
        pytest.warns(UserWarning, match="is left out"),
        pytest.raises(ValueError, match="expected a token or more"),
    ):
        fill("The [MASK].", targets=[" "])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("several", [False, True])
def test_zero_shot_classification(family, several):
    path = directory(family, SEQUENCE, **labels("contradiction", "neutral", "entailment"))
    task, tags = "zero-shot-classification", ["a warp", "strip", "a person"]
    options = {"candidate_labels": tags, "multi_label": several}
    compare(task, path, SEQUENCE, TEXTS, **options)
    compare(task, path, SEQUENCE, TEXTS[0], ", ".join(tags), hypothesis_template="It is {}!")
    compare(task, path, SEQUENCE, LONG * 2, **options)  # the text is cut, the labels are not
    compare(task, path, SEQUENCE, TEXTS[0], candidate_labels="one")


def test_labels_of_zero_shot_classification():
    """The entailment may be any label; without one the last is taken, as in Transformers."""
    task, options = "zero-shot-classification", {"candidate_labels": ["a", "b"]}
    first = directory("bert", SEQUENCE, **labels("Entailment", "other"))
    compare(task, first, SEQUENCE, TEXTS, multi_label=True, **options)
    named = directory("bert", SEQUENCE, **labels("yes", "no"))
    with pytest.warns(UserWarning, match="begins with 'entail'"):
        compare(task, named, SEQUENCE, TEXTS, **options)
    assert pipeline(task, first)(sequences=TEXTS[0], candidate_labels="a")["labels"] == ["a"]


@pytest.mark.parametrize("family", FAMILIES)
def test_feature_extraction(family):
    path = directory(family)
    compare("feature-extraction", path, "", TEXTS)
    compare("feature-extraction", path, "", LONG, truncation=True)
    compare("feature-extraction", path, "", LONG, tokenize_kwargs={"truncation": True})
    array = pipeline("feature-extraction", path, return_tensors=True)(TEXTS[0])
    assert array.dtype == np.float32
    assert array.tolist() == pipeline("feature-extraction", path)(TEXTS[0])


def test_feature_extraction_with_minilm():
    """A trained model gives the vectors of Transformers."""
    texts = ["A cat sleeps.", "Interest rates rise again."]
    found = compare("feature-extraction", checkpoints.MINILM, "", texts)
    assert [np.shape(vectors) for vectors in found] == [(1, 6, 384), (1, 7, 384)]


@pytest.mark.parametrize("count", [1, 3, 7, None])
def test_ranking(count):
    scores = np.array([2, 5, 5, 1, 5, 2], np.float32)
    order = sorted(range(6), key=lambda i: -scores[i])
    assert ranking.best(scores, count).tolist() == order[:count]


def test_spans_of_two_tokens():
    """Two tokens of a context have three spans; the first token is no part of one."""
    logits = np.log(np.array([0.5, 0.2, 0.3, 0.9], np.float32))
    context = np.array([False, True, True, False])
    found = spans.best_spans((logits, logits), context, 9, 9)
    pairs = list(zip(found.starts.tolist(), found.ends.tolist(), strict=True))
    assert pairs == [(2, 2), (1, 2), (1, 1)]
    np.testing.assert_allclose(found.scores, [0.09, 0.06, 0.04], rtol=1e-6)
    np.testing.assert_allclose(found.null, 0.25, rtol=1e-6)

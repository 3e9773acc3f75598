"""Lines of model cards that score and rank pairs with a CrossEncoder."""

import json
import pickle
import shutil

import numpy as np
import pytest
import torch
import transformers

from support import checkpoints
from support.checkpoints import MINILM, assert_close
from support.tolerance import assert_same_bits
from treadle.transformers import CrossEncoder, SentenceTransformer

PAIRS = [
    ("How many people live in Berlin?", "Berlin had 3.5 million people in 2019."),
    ("a", "b"),
    ("x " * 30, "y " * 50),
    ("", ""),
    ("Rates", "A cat sits on the mat."),
]
IDENTITY, SIGMOID, TANH = (
    f"torch.nn.modules.{name}"
    for name in ("linear.Identity", "activation.Sigmoid", "activation.Tanh")
)


def made(path, labels, family="bert", **changes):
    """A small random classifier with MiniLM's tokenizer, as Transformers saves it."""
    skipped = ("*.safetensors", "modules.json", "*sentence*", "[0-9]_*", "config.json")
    shutil.copytree(MINILM, path, ignore=shutil.ignore_patterns(*skipped))
    if family == "distilbert":
        file = path / "tokenizer_config.json"
        kind = {"tokenizer_class": "DistilBertTokenizer"}
        file.write_text(json.dumps(json.loads(file.read_text()) | kind))
    names = {i: str(i) for i in range(labels)}
    config = checkpoints.configuration(
        family, vocab_size=30522, id2label=names, label2id={v: k for k, v in names.items()}
    )
    for name, value in changes.items():
        setattr(config, name, value)
    torch.manual_seed(0)
    checkpoints.randomized(config, "SequenceClassification").save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    return made(tmp_path_factory.mktemp("single") / "model", 1)


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    return made(tmp_path_factory.mktemp("several") / "model", 3)


def logits(path, pairs=PAIRS, limit=40):
    """(in float64, in float32), by Transformers."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(path).eval()
    inputs = tokenizer(
        *[list(texts) for texts in zip(*pairs, strict=True)],
        padding=True,
        truncation="longest_first",
        max_length=limit,
        return_tensors="np",
    )
    return [output.logits for output in checkpoints.run_theirs(model, inputs)]


def test_one_label(single):
    """The sigmoid is the default, for one label without any activation in the files."""
    model = CrossEncoder(single)
    exact, rounded = (torch.sigmoid(x)[:, 0] for x in logits(single))
    scores = model.predict(PAIRS)
    assert_close(scores, exact, rounded)
    assert (model.num_labels, model.max_length, model.max_seq_length) == (1, 40, 40)
    assert "num_labels=1" in repr(model)
    assert_same_bits(model.predict([list(pair) for pair in PAIRS]), scores)
    assert_same_bits(model.predict(np.array(PAIRS)), scores)
    assert_same_bits(model.predict(inputs=PAIRS, batch_size=2), scores)
    assert_same_bits(model.predict(iter(PAIRS)), scores)
    assert type(model.predict(PAIRS[0])) is np.float32
    assert_same_bits([model.predict(pair) for pair in PAIRS], list(scores))
    assert model.predict([]).shape == (0,)


def test_several_labels(several):
    """Logits by default; apply_softmax makes them sum to 1."""
    model = CrossEncoder(several)
    exact, rounded = logits(several)
    scores = model.predict(PAIRS)
    assert_close(scores, exact, rounded)
    soft = model.predict(PAIRS, apply_softmax=True)
    assert_close(soft, exact.softmax(-1), rounded.softmax(-1))
    assert model.predict(PAIRS[0]).shape == (3,)
    assert model.predict([]).shape == (0, 3)
    with pytest.raises(ValueError, match="the model has 3 labels, expected 1"):
        model.rank("a", ["b"])


@pytest.mark.parametrize("path", [IDENTITY, SIGMOID, TANH])
@pytest.mark.parametrize("form", ["5", "older", "6"])
def test_activations_of_files(tmp_path, path, form):
    """Before 5.4 config.json names the activation, then config_sentence_transformers.json."""
    changes = {
        "5": {"sentence_transformers": {"activation_fn": path, "version": "5.2.3"}},
        "older": {"sbert_ce_default_activation_function": path},
        "6": {},
    }[form]
    place = made(tmp_path / "model", 1, **changes)
    if form == "6":
        write_version_6(place, {"activation_fn": path})
    function = {IDENTITY: lambda x: x, SIGMOID: torch.sigmoid, TANH: torch.tanh}[path]
    exact, rounded = (function(x)[:, 0] for x in logits(place))
    assert_close(CrossEncoder(place).predict(PAIRS), exact, rounded)


def write_version_6(place, entries, **encoder):
    """The files that sentence-transformers 6 writes for a CrossEncoder."""
    kind = "sentence_transformers.base.modules.transformer.Transformer"
    (place / "modules.json").write_text(
        json.dumps([{"idx": 0, "name": "0", "path": "", "type": kind}])
    )
    modality = {"text": {"method": "forward", "method_output_name": "logits"}}
    (place / "sentence_bert_config.json").write_text(
        json.dumps(
            {
                "transformer_task": "sequence-classification",
                "modality_config": modality,
                "module_output_name": "scores",
                **encoder,
            }
        )
    )
    (place / "config_sentence_transformers.json").write_text(
        json.dumps(
            {
                "__version__": {"sentence_transformers": "6.2.0"},
                "activation_fn": SIGMOID,
                "default_prompt_name": None,
                "model_type": "CrossEncoder",
                "prompts": {},
                **entries,
            }
        )
    )


@pytest.mark.parametrize(
    ("activation", "right"),
    [
        (torch.nn.Identity(), lambda x: x),
        (torch.nn.Sigmoid(), torch.sigmoid),
        (torch.nn.GELU(), torch.nn.functional.gelu),
        (torch.nn.GELU("tanh"), torch.nn.GELU("tanh")),
        (torch.nn.Softplus(), torch.nn.functional.softplus),
        (torch.sigmoid, torch.sigmoid),
        (torch.nn.functional.silu, torch.nn.functional.silu),
        (lambda x: 2 * x, lambda x: 2 * x),
        (np.tanh, torch.tanh),
        (IDENTITY, lambda x: x),
    ],
)
def test_activations_of_arguments(single, activation, right):
    """activation_fn=torch.nn.Identity() of the cards of MS MARCO's models, and any function."""
    exact, rounded = (right(x)[:, 0] for x in logits(single))
    assert_close(CrossEncoder(single, activation_fn=activation).predict(PAIRS), exact, rounded)
    assert_close(CrossEncoder(single).predict(PAIRS, activation_fn=activation), exact, rounded)


def test_large_scores():
    """The sigmoid of a large score is 0 or 1, and keeps its digits near 0."""
    from treadle.transformers.activations import Activation

    scores = np.array([-1000, -88, -20, 0, 20, 1000], np.float32)
    found = Activation("test", SIGMOID)("test", scores)
    right = torch.sigmoid(torch.from_numpy(scores).double()).numpy()
    np.testing.assert_allclose(found, right, rtol=1e-6, atol=1e-45)


def test_rank(single):
    """The example of sentence-transformers: a query and documents, the best one first."""
    model = CrossEncoder(single)
    documents = [second for _, second in PAIRS] + [PAIRS[0][1]]
    scores = model.predict([("berlin", text) for text in documents])
    found = model.rank("berlin", documents, return_documents=True)
    assert [row["corpus_id"] for row in found] == np.argsort(-scores, kind="stable").tolist()
    for row in found:
        assert row["score"] == scores[row["corpus_id"]]
        assert row["text"] == documents[row["corpus_id"]]
        assert type(row["score"]) is float
    assert model.rank("berlin", documents, top_k=2) == [
        {"corpus_id": row["corpus_id"], "score": row["score"]} for row in found[:2]
    ]
    assert model.rank("berlin", documents, 99, True) == found
    assert model.rank("berlin", []) == []
    with pytest.raises(TypeError, match="documents is 'abc'"):
        model.rank("berlin", "abc")


def test_tensors(single, several):
    for path in (single, several):
        model = CrossEncoder(path)
        tensor = model.predict(PAIRS, convert_to_tensor=True)
        assert_same_bits(tensor.numpy(), model.predict(PAIRS))
        rows = model.predict(PAIRS, convert_to_numpy=False)
        assert isinstance(rows, list)
        assert_same_bits(torch.stack(rows).numpy(), tensor.numpy())
        assert model.predict(PAIRS[0], convert_to_tensor=True).shape == tensor.shape[1:]


def test_lengths(single, tmp_path):
    exact, rounded = (torch.sigmoid(x)[:, 0] for x in logits(single, limit=12))
    model = CrossEncoder(single, max_length=12)
    short = model.predict(PAIRS)
    assert_close(short, exact, rounded)
    assert_same_bits(CrossEncoder(single, None, 12).predict(PAIRS), short)
    assert_same_bits(
        CrossEncoder(single, tokenizer_kwargs={"model_max_length": 12}).predict(PAIRS), short
    )
    limit = {"text": {"max_length": 12}}
    other = CrossEncoder(single)
    assert_same_bits(other.predict(PAIRS, processing_kwargs=limit), short)
    other.max_length = 12
    assert_same_bits(other.predict(PAIRS), short)
    assert_same_bits(pickle.loads(pickle.dumps(model)).predict(PAIRS), short)
    place = shutil.copytree(single, tmp_path / "model")
    write_version_6(place, {}, max_seq_length=12)
    assert_same_bits(CrossEncoder(place).predict(PAIRS), short)
    with pytest.raises(ValueError, match="max_seq_length"):
        other.max_seq_length = 2  # less than the special tokens of a pair


def test_prompts(single, tmp_path):
    """A prompt goes before the first text of each pair."""
    place = shutil.copytree(single, tmp_path / "model")
    write_version_6(place, {"prompts": {"web": "find: "}, "default_prompt_name": "web"})
    model = CrossEncoder(place)
    right = model.predict([("find: " + first, second) for first, second in PAIRS], prompt="")
    assert_same_bits(model.predict(PAIRS), right)
    assert_same_bits(CrossEncoder(single).predict(PAIRS, prompt="find: "), right)
    with pytest.raises(ValueError, match=r"prompt_name is 'query' .*, expected one of"):
        model.predict(PAIRS, prompt_name="query")


@pytest.mark.parametrize("family", ["distilbert", "electra", "ernie"])
def test_families(tmp_path, family):
    place = made(tmp_path / "model", 1, family)
    exact, rounded = (torch.sigmoid(x)[:, 0] for x in logits(place))
    assert_close(CrossEncoder(place).predict(PAIRS), exact, rounded)


def test_labels(single, several, tmp_path):
    """A checkpoint that does not say it is a classifier has one label."""
    assert CrossEncoder(several, num_labels=3).num_labels == 3
    with pytest.raises(ValueError, match=r"classifier\.weight' has shape"):
        CrossEncoder(several, num_labels=1)
    place = shutil.copytree(several, tmp_path / "model")
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(config | {"architectures": ["BertModel"]}))
    with pytest.raises(ValueError, match=r"classifier\.weight' has shape"):
        CrossEncoder(place)


REFUSED = {
    "device": ({"device": "cuda"}, ValueError, "device"),
    "code": ({"trust_remote_code": True}, ValueError, "trust_remote_code"),
    "activation": ({"activation_fn": 5}, TypeError, "activation_fn"),
    "path": ({"activation_fn": "os.system"}, ValueError, "os.system"),
    "unknown": ({"nosuch": 5}, TypeError, "nosuch"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_arguments_of_a_constructor_that_are_refused(single, case):
    options, error, culprit = REFUSED[case]
    with pytest.raises(error, match=culprit):
        CrossEncoder(single, **options)


@pytest.mark.parametrize(
    ("pairs", "options", "error", "culprit"),
    [
        (None, {}, TypeError, "sentences is None"),
        ("ab", {}, TypeError, "sentences is 'ab'"),
        (["a"], {}, TypeError, "expected pairs"),
        ([("a", "b", "c")], {}, TypeError, "expected pairs"),
        ([("a", None)], {}, TypeError, "expected pairs"),
        ([("a", "\ud800")], {}, ValueError, "no Unicode"),
        (PAIRS, {"batch_size": 0}, ValueError, "batch_size"),
        (PAIRS, {"device": "cuda"}, ValueError, "device"),
        (PAIRS, {"pool": {}}, ValueError, "pool"),
        (PAIRS, {"num_workers": 2}, TypeError, "num_workers"),
        (PAIRS, {"apply_softmax": 1}, TypeError, "apply_softmax"),
        (PAIRS, {"activation_fn": lambda x: x[:1]}, ValueError, "activation_fn"),
    ],
)
def test_calls_that_are_refused(single, pairs, options, error, culprit):
    with pytest.raises(error, match=rf"^treadle\.transformers\.CrossEncoder.*{culprit}"):
        CrossEncoder(single).predict(pairs, **options)


def test_directories_of_the_other_class(single, tmp_path):
    """sentence-transformers would make another model of it, with weights that are random."""
    place = shutil.copytree(single, tmp_path / "model")
    write_version_6(place, {})
    with pytest.raises(ValueError, match="transformer_task is 'sequence-classification'"):
        SentenceTransformer(place)
    with pytest.raises(ValueError, match="more than a Transformer"):
        CrossEncoder(MINILM)


@pytest.mark.parametrize("name", ["single", "several"])
def test_against_sentence_transformers(name, request):
    """Where sentence-transformers is installed: the same kinds, shapes and numbers."""
    package = pytest.importorskip("sentence_transformers")
    path = request.getfixturevalue(name)
    theirs, ours = package.CrossEncoder(str(path), device="cpu"), CrossEncoder(path)
    # Version 5 makes ones of single labels by the softmax, version 6 leaves them alone.
    soft = [{"apply_softmax": True}] if name == "several" else []
    for options in ({}, {"convert_to_tensor": True}, *soft):
        right, found = theirs.predict(PAIRS, **options), ours.predict(PAIRS, **options)
        assert type(found) is type(right)
        assert found.dtype == right.dtype
        np.testing.assert_allclose(np.asarray(found), np.asarray(right), atol=1e-5)
    if name == "single":
        texts = [second for _, second in PAIRS]
        right, found = theirs.rank("a", texts), ours.rank("a", texts)
        assert [row["corpus_id"] for row in found] == [row["corpus_id"] for row in right]

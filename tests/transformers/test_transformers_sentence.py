"""SentenceTransformer: modules, pooling, blocks and batches, prompts, similarity, hostile files."""

import json
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest
import torch
import transformers as reference
from hypothesis import given
from hypothesis import strategies as st
from test_transformers_tokenizer import directory

from support import checkpoints
from support.checkpoints import MINILM, assert_close
from support.tolerance import assert_same_bits
from treadle.transformers import AutoTokenizer, SentenceTransformer, families
from treadle.transformers.encode_call import Batch

SENTENCES = [
    "A cat sits on the mat.",
    "",
    "The treadle is drawn through the warp, over and under, row after row.",
    "Kitten!",
    "word " * 400,
    "Zwei Sätze. In anderer Sprache, mit Umläuten: äöü; 漢字 🧵",
] + [f"Sentence number {i} has {'very ' * (i % 13)}many words." for i in range(60)]

SHORT = [sentence for sentence in SENTENCES if len(sentence) < 200]

MODEL = SentenceTransformer(MINILM)

POOLINGS = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")


def pooled(x, mask, mode):
    """sentence-transformers' definition for x [B, S, H] and mask [B, S], in PyTorch."""
    weights = mask[..., None].to(x.dtype)
    steps = torch.arange(1, x.shape[1] + 1, dtype=x.dtype)[:, None]
    return {
        "cls": lambda: x[:, 0],
        "max": lambda: x.masked_fill(mask[..., None] == 0, -torch.inf).amax(1),
        "mean": lambda: (x * weights).sum(1) / weights.sum(1),
        "mean_sqrt_len_tokens": lambda: (x * weights).sum(1) / weights.sum(1).sqrt(),
        "weightedmean": lambda: (x * weights * steps).sum(1) / (weights * steps).sum(1),
        "lasttoken": lambda: x[torch.arange(len(x)), mask.sum(1) - 1],
    }[mode]()


THEIRS = reference.AutoModel.from_pretrained(MINILM).eval()


@cache
def tokens(sentences, limit):
    """The reference's tokens x [B, S, H] in float64 and in float32, and their mask [B, S]."""
    tokenizer = AutoTokenizer.from_pretrained(MINILM)
    inputs = tokenizer(
        list(sentences), padding=True, truncation=True, max_length=limit, return_tensors="np"
    )
    exact, rounded = checkpoints.run_theirs(THEIRS, inputs)
    return exact[0], rounded[0], torch.from_numpy(inputs.attention_mask)


def expected(sentences, *modes, limit=256):
    """(in float64, in float32), not normalized."""
    exact, rounded, mask = tokens(tuple(sentences), limit)
    return [torch.cat([pooled(x, mask, mode) for mode in modes], -1) for x in (exact, rounded)]


def normalized(x):
    return torch.nn.functional.normalize(x, dim=-1)


def changed(tmp_path, **files):
    """MiniLM with other JSON files: name__in__folder -> content, None: without it."""
    path = checkpoints.minilm_copied(tmp_path)
    for name, content in files.items():
        file = path / f"{name.replace('__', '/')}.json"
        if content is None:
            file.unlink()
        else:
            file.parent.mkdir(exist_ok=True)
            file.write_text(json.dumps(content))
    return path


def modules(*kinds, package="sentence_transformers.models"):
    return [
        {"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "", "type": f"{package}.{kind}"}
        for i, kind in enumerate(["Transformer", *kinds])
    ]


def test_minilm():
    """Against Transformers with the mean of the tokens and F.normalize, texts too long included."""
    exact, rounded = expected(SENTENCES[:6], "mean")
    vectors = MODEL.encode(SENTENCES[:6])
    assert_close(vectors, normalized(exact), normalized(rounded))
    assert MODEL.get_sentence_embedding_dimension() == 384
    assert MODEL.max_seq_length == 256
    assert "384" in repr(MODEL)


@pytest.mark.parametrize("mode", POOLINGS)
@pytest.mark.parametrize("form", ["old", "new", "list"])
def test_pooling(tmp_path, mode, form):
    """Every mode, in every form of the configuration that there has been."""
    old = {"mean_sqrt_len_tokens": "mean_sqrt_len_tokens", "lasttoken": "lasttoken"}
    old_name = f"pooling_mode_{old.get(mode, mode + ('_token' if mode == 'cls' else '_tokens'))}"
    content = {
        "old": {
            "word_embedding_dimension": 384,
            "pooling_mode_mean_tokens": False,
            "include_prompt": True,
            old_name: True,
        },
        "new": {"embedding_dimension": 384, "pooling_mode": mode},
        "list": {"embedding_dimension": 384, "pooling_mode": [mode]},
    }[form]
    path = changed(tmp_path, modules=modules("Pooling"), **{"1_Pooling__config": content})
    exact, rounded = expected(SENTENCES[:6], mode)
    assert_close(SentenceTransformer(path).encode(SENTENCES[:6]), exact, rounded)


@pytest.mark.parametrize(
    "content",
    [
        {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True},
        {"pooling_mode": ["cls", "mean"]},
    ],
    ids=["old", "new"],
)
def test_several_poolings(tmp_path, content):
    """One after the other, in the order of sentence-transformers."""
    path = changed(tmp_path, modules=modules("Pooling"), **{"1_Pooling__config": content})
    model = SentenceTransformer(path)
    exact, rounded = expected(SENTENCES[:6], "cls", "mean")
    assert model.get_sentence_embedding_dimension() == 768
    assert_close(model.encode(SENTENCES[:6]), exact, rounded)


@pytest.mark.parametrize("value", [1, "yes", None])
def test_poolings_that_are_no_flags(tmp_path, value):
    """Not passed over: the mean would be taken instead."""
    path = changed(
        tmp_path,
        modules=modules("Pooling"),
        **{"1_Pooling__config": {"pooling_mode_cls_token": value}},
    )
    with pytest.raises(ValueError, match="pooling_mode_cls_token is "):
        SentenceTransformer(path)


def test_without_modules(tmp_path):
    """An encoder alone: the mean of its tokens, as sentence-transformers does."""
    path = changed(tmp_path, modules=None, sentence_bert_config=None)
    model = SentenceTransformer(path)
    exact, rounded = expected(SENTENCES[:4], "mean")
    assert model.max_seq_length == 512
    assert_close(model.encode(SENTENCES[:4]), exact, rounded)


@pytest.mark.parametrize("family", checkpoints.FAMILIES)
def test_families(tmp_path, family):
    """With tokenizers of their own; padding tokens in the text are counted as there."""
    path = tmp_path / family
    shutil.copytree(directory(family), path, ignore=shutil.ignore_patterns("*.safetensors"))
    for file in ("modules", "sentence_bert_config", "config"):
        (path / f"{file}.json").unlink(missing_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(path)
    config = checkpoints.configuration(family, vocab_size=len(tokenizer))
    model = checkpoints.randomized(config)
    model.save_pretrained(path)
    texts = ["treadle and warp", f"a {tokenizer.pad_token} {tokenizer.pad_token} b", "loom " * 60]
    ours = SentenceTransformer(path)
    inputs = tokenizer(
        texts, padding=True, truncation=True, max_length=ours.max_seq_length, return_tensors="np"
    )
    assert ours.max_seq_length == (38 if families.FAMILIES[family].after_padding else 40)
    mask = torch.from_numpy(inputs.attention_mask)
    exact, rounded = (pooled(o[0], mask, "mean") for o in checkpoints.run_theirs(model, inputs))
    assert_close(ours.encode(texts), exact, rounded)


def test_tokenizer_of_another_model(tmp_path):
    """A tokenizer of another model gives ids that the model's table does not have."""
    path = checkpoints.minilm_copied(tmp_path)
    for file in ("config.json", "model.safetensors"):
        (path / file).unlink()
        shutil.copy(checkpoints.saved("bert") / file, path)
    (path / "modules.json").unlink()
    model = SentenceTransformer(path)
    with pytest.raises(ValueError, match=r"^treadle\.transformers\.SentenceTransformer\.encode"):
        model.encode("Hello")


def test_shapes():
    assert MODEL.encode("Hello").shape == (384,)
    assert MODEL.encode(["Hello"]).shape == (1, 384)
    assert MODEL.encode([]).shape == (0, 384)
    assert MODEL.encode(iter([])).shape == (0, 384)
    assert MODEL.encode("").shape == (384,)
    assert np.isfinite(MODEL.encode("")).all()
    assert MODEL.encode([]).dtype == MODEL.encode(["Hello"]).dtype == np.float32
    assert MODEL.encode(np.array(["a", "b"])).shape == (2, 384)
    assert MODEL.encode({"text": "a"}).shape == (384,)
    assert MODEL.encode([{"text": "a"}, "b"]).shape == (2, 384)


@given(st.data())
def test_a_sentence_has_the_same_bits_in_any_list(data):
    """Alone or among others, whatever the size of the batches."""
    some = data.draw(st.lists(st.sampled_from(SHORT), min_size=1, max_size=8))
    size = data.draw(st.integers(1, 9))
    norm = data.draw(st.booleans())
    vectors = MODEL.encode(some, batch_size=size, normalize_embeddings=norm)
    row = data.draw(st.integers(0, len(some) - 1))
    assert_same_bits(vectors[row], MODEL.encode(some[row], normalize_embeddings=norm))


def test_threads_do_not_change_bits(threads):
    assert_same_bits(MODEL.encode(SENTENCES[:3]), ONE_THREAD)


ONE_THREAD = MODEL.encode(SENTENCES[:3])


def test_generators_are_taken_in_blocks():
    """The texts are never all in memory, and the result is that of a list."""
    words = [f"w{i}" for i in range(40)]
    taken = []

    def sentences():
        for i in range(9000):
            taken.append(i)
            yield words[i % 40]

    seen = []

    class Watched(SentenceTransformer):
        def _batches(self, function, texts, cut, batch_size):
            seen.append((len(taken), len(texts)))
            vectors = np.ones((len(texts), 384), np.float32)
            yield Batch(np.arange(len(texts)), None, None, None, vectors)

    vectors = Watched(MINILM).encode(sentences())
    assert vectors.shape == (9000, 384)
    assert vectors.all()
    assert seen == [(4096, 4096), (8192, 4096), (9000, 808)]
    assert_same_bits(MODEL.encode(w for w in words), MODEL.encode(words))


def test_threads_share_a_model():
    parts = [SENTENCES[i : i + 5] for i in range(0, 40, 5)]
    alone = [MODEL.encode(part) for part in parts]
    with ThreadPoolExecutor(4) as pool:
        assert_same_bits(list(pool.map(MODEL.encode, parts)), alone)


def test_normalize_embeddings(tmp_path):
    path = changed(tmp_path, modules=modules("Pooling"))
    model = SentenceTransformer(path)
    plain, unit = (
        model.encode(SENTENCES[:4]),
        model.encode(SENTENCES[:4], normalize_embeddings=True),
    )
    assert not np.allclose(np.linalg.norm(plain, axis=1), 1)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(unit * np.linalg.norm(plain, axis=1)[:, None], plain, atol=1e-6)


def test_max_seq_length():
    model = SentenceTransformer(MINILM)
    model.max_seq_length = 5
    exact, rounded = expected(SENTENCES[:6], "mean", limit=5)
    assert_close(model.encode(SENTENCES[:6]), normalized(exact), normalized(rounded))
    assert_same_bits(model.encode("a b c d e f"), model.encode("a b c"))
    for value in (1, 513, 5.0, None, -1, True):
        with pytest.raises((ValueError, TypeError), match="max_seq_length"):
            model.max_seq_length = value
    assert model.max_seq_length == 5


@pytest.mark.parametrize(("given_length", "used"), [(64, 64), (100_000, 512), (None, 512)], ids=str)
def test_max_seq_length_of_the_file(tmp_path, given_length, used):
    path = changed(tmp_path, sentence_bert_config={"max_seq_length": given_length})
    assert SentenceTransformer(path).max_seq_length == used


def test_lower_case(tmp_path):
    path = changed(tmp_path, sentence_bert_config={"max_seq_length": 256, "do_lower_case": True})
    file = path / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"do_lower_case": False}))
    assert_same_bits(SentenceTransformer(path).encode("HeLLo World"), MODEL.encode("hello world"))


PROMPTS = {"prompts": {"query": "query: ", "passage": "passage: ", "none": None}}


def test_prompts(tmp_path):
    model = SentenceTransformer(changed(tmp_path, config_sentence_transformers=PROMPTS))
    query = MODEL.encode("query: hello")
    assert_same_bits(model.encode("hello", prompt_name="query"), query)
    assert_same_bits(model.encode("hello", prompt="query: "), query)
    assert_same_bits(model.encode_query(["hello"])[0], query)
    assert_same_bits(model.encode("hello", "passage"), MODEL.encode("passage: hello"))
    assert_same_bits(model.encode_document("hello"), MODEL.encode("hello"))
    assert_same_bits(model.encode_document("hello", prompt=""), MODEL.encode("hello"))
    assert_same_bits(model.encode("hello", prompt_name="none"), MODEL.encode("hello"))
    assert_same_bits(model.encode("hello"), MODEL.encode("hello"))
    assert_same_bits(MODEL.encode_query("hello"), MODEL.encode("hello"))


def test_default_prompt(tmp_path):
    settings = PROMPTS | {"default_prompt_name": "query"}
    model = SentenceTransformer(changed(tmp_path, config_sentence_transformers=settings))
    assert_same_bits(model.encode("hello"), MODEL.encode("query: hello"))
    assert_same_bits(model.encode_document("hello"), MODEL.encode("hello"))


def test_prompts_left_out_of_the_pooling(tmp_path):
    """The tokens of a prompt are read, but not averaged."""
    content = {"pooling_mode": "weightedmean", "include_prompt": False}
    path = changed(tmp_path, modules=modules("Pooling"), **{"1_Pooling__config": content})
    model = SentenceTransformer(path)
    *outputs, mask = tokens(("about cats: hello world",), 256)
    mask = mask.clone()
    mask[:, :4] = 0  # [CLS] about cats :
    exact, rounded = (pooled(x, mask, "weightedmean") for x in outputs)
    assert_close(model.encode(["hello world"], prompt="about cats: "), exact, rounded)


@pytest.mark.parametrize("name", ["cosine", "dot", "euclidean", "manhattan", None])
def test_similarity(tmp_path, name):
    settings = {"similarity_fn_name": name}
    model = SentenceTransformer(changed(tmp_path, config_sentence_transformers=settings))
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((5, 384)), rng.standard_normal((7, 384))
    right = {
        "cosine": lambda: (
            (a / np.linalg.norm(a, axis=1)[:, None]) @ (b / np.linalg.norm(b, axis=1)[:, None]).T
        ),
        "dot": lambda: a @ b.T,
        "euclidean": lambda: -np.linalg.norm(a[:, None] - b, axis=-1),
        "manhattan": lambda: -np.abs(a[:, None] - b).sum(-1),
    }[name or "cosine"]()
    a, b = a.astype(np.float32), b.astype(np.float32)
    found = model.similarity(a, torch.from_numpy(b))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, right, rtol=1e-5, atol=1e-4)
    assert_same_bits(model.similarity(a[0], b)[0], found[0])
    assert model.similarity(a[0], b[0]).shape == (1, 1)
    assert model.similarity(a[:0], b).shape == (0, 7)


def test_pickle():
    twin = pickle.loads(pickle.dumps(MODEL))
    assert_same_bits(twin.encode("Hello"), MODEL.encode("Hello"))


# Wrong arguments.

WRONG = {
    "None": (None, {}, TypeError, "sentences"),
    "a number": (5, {}, TypeError, "sentences"),
    "a list with None": (["a", None], {}, TypeError, "sentences"),
    "bytes": (b"abc", {}, TypeError, "sentences"),
    "pairs": ([("a", "b")], {}, TypeError, "sentences"),
    "a dict of something else": ({"image": "a"}, {}, TypeError, "sentences"),
    "an array without axes": (np.array("abc"), {}, TypeError, "sentences"),
    "a surrogate": ("\ud800", {}, ValueError, "sentences"),
    "batch_size": ("a", {"batch_size": 0}, ValueError, "batch_size"),
    "batch_size a float": ("a", {"batch_size": 2.0}, TypeError, "batch_size"),
    "normalize_embeddings": ("a", {"normalize_embeddings": 1}, TypeError, "normalize_embeddings"),
    "show_progress_bar": ("a", {"show_progress_bar": "yes"}, TypeError, "show_progress_bar"),
    "prompt": ("a", {"prompt": 5}, TypeError, "prompt"),
    "prompt with a surrogate": ("a", {"prompt": "\udc00"}, ValueError, "prompt"),
    "prompt_name": ("a", {"prompt_name": "nosuch"}, ValueError, "prompt_name"),
    "prompt_name a number": ("a", {"prompt_name": 3}, ValueError, "prompt_name"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments(name):
    sentences, options, error, culprit = WRONG[name]
    with pytest.raises(error, match=rf"^treadle\.transformers\.SentenceTransformer.*: .*{culprit}"):
        MODEL.encode(sentences, **options)


def test_no_dtype():
    with pytest.raises(
        ValueError, match=r"^treadle\.transformers\.SentenceTransformer: dtype is 'int4'"
    ):
        SentenceTransformer(MINILM, dtype="int4")


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.ones((2, 3), np.float32), np.ones((2, 4), np.float32)),
        (np.ones((2, 3, 4), np.float32), np.ones((2, 4), np.float32)),
        (np.ones((2, 3)), np.ones((2, 3), np.float32)),
        (None, np.ones((2, 3), np.float32)),
        ("a", "b"),
    ],
    ids=["sizes", "axes", "float64", "None", "texts"],
)
def test_wrong_vectors(a, b):
    with pytest.raises(
        (ValueError, TypeError), match=r"SentenceTransformer\.similarity: embeddings"
    ):
        MODEL.similarity(a, b)

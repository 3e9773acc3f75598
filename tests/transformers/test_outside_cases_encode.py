"""Lines of model cards that call SentenceTransformer with arguments beside the sentences."""

import json
import pickle
import subprocess
import sys
from enum import Enum

import numpy as np
import pytest
import torch

from support import checkpoints
from support.checkpoints import MINILM
from support.tolerance import assert_same_bits
from treadle.transformers import SentenceTransformer

MODEL = SentenceTransformer(MINILM)
TEXTS = ["A cat sits on the mat.", "Rates rise.", "", "word " * 40]
VECTORS = MODEL.encode(TEXTS)
VECTORS_DOT = SentenceTransformer(MINILM, similarity_fn_name="dot").similarity(VECTORS, VECTORS)
NAME = r"^treadle\.transformers\.SentenceTransformer"


def test_tensors():
    """convert_to_tensor=True of the semantic search examples, and lists of tensors."""
    tensor = MODEL.encode(TEXTS, convert_to_tensor=True)
    assert isinstance(tensor, torch.Tensor)
    assert_same_bits(tensor.numpy(), VECTORS)
    assert MODEL.encode(TEXTS[0], convert_to_tensor=True).shape == (384,)
    # convert_to_tensor wins over convert_to_numpy, which is True by default.
    assert isinstance(
        MODEL.encode("a", convert_to_tensor=True, convert_to_numpy=True), torch.Tensor
    )
    rows = MODEL.encode(TEXTS, convert_to_numpy=False)
    assert isinstance(rows, list)
    assert_same_bits([row.numpy() for row in rows], list(VECTORS))
    assert_same_bits(MODEL.similarity(rows, tensor), MODEL.similarity(VECTORS, VECTORS))


def test_torch_is_imported_for_tensors_alone():
    program = f"""
import sys
sys.modules["torch"] = None
from treadle.transformers import CrossEncoder, SentenceTransformer
model = SentenceTransformer({str(MINILM)!r}, device="cpu")
model.encode(["a", "b"], output_value=None, device="cpu")
model.encode(["a", "b"], precision="int8")
model.encode("a", output_value="token_embeddings")
try:
    model.encode("a", convert_to_tensor=True)
except ImportError as error:
    print(error)
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert "convert_to_tensor is True and PyTorch cannot be imported" in done.stdout, done.stderr


@pytest.mark.parametrize("precision", ["int8", "uint8"])
def test_levels(precision):
    """sentence-transformers' quantize_embeddings: 256 levels between a column's bounds."""
    least, most = VECTORS.min(0), VECTORS.max(0)
    levels = np.floor((VECTORS - least) / ((most - least) / np.float32(255))).clip(0, 255)
    found = MODEL.encode(TEXTS, precision=precision)
    assert found.dtype == precision
    np.testing.assert_array_equal(found, levels - (128 if precision == "int8" else 0))
    # A column that is the same everywhere has the first level.
    same = MODEL.encode(["a", "a"], precision=precision)
    assert (same == (-128 if precision == "int8" else 0)).all()
    for one in ("a", ["a"]):
        with pytest.raises(ValueError, match=rf"precision is '{precision}' for one vector"):
            MODEL.encode(one, precision=precision)
    assert MODEL.encode([], precision=precision).shape == (0, 384)


def test_bits():
    bits = (VECTORS > 0).reshape(4, 48, 8)
    bytes_ = (bits * 2 ** np.arange(7, -1, -1)).sum(-1)
    found = MODEL.encode(TEXTS, precision="ubinary")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, bytes_)
    signed = MODEL.encode(TEXTS, precision="binary", convert_to_tensor=True)
    assert signed.dtype == torch.int8
    np.testing.assert_array_equal(signed.numpy(), bytes_ - 128)
    assert MODEL.encode(TEXTS[0], precision="ubinary").shape == (48,)
    # A number of columns that is no multiple of eight is filled up with zeros.
    assert MODEL.encode("a", precision="ubinary", truncate_dim=9)[1] in (0, 128)


def test_truncate_dim(tmp_path):
    """Matryoshka models: cut first, then scaled; of a call, the constructor or the file."""
    assert_same_bits(MODEL.encode(TEXTS, truncate_dim=50), VECTORS[:, :50])
    unit = MODEL.encode(TEXTS, truncate_dim=50, normalize_embeddings=True)
    cut = VECTORS[:, :50] / np.linalg.norm(VECTORS[:, :50], axis=1, keepdims=True)
    np.testing.assert_allclose(unit, cut, atol=1e-6)
    assert MODEL.encode("a", truncate_dim=1000).shape == (384,)
    model = SentenceTransformer(MINILM, truncate_dim=7)
    assert model.get_sentence_embedding_dimension() == model.get_embedding_dimension() == 7
    assert_same_bits(model.encode(TEXTS), VECTORS[:, :7])
    assert_same_bits(model.encode(TEXTS, truncate_dim=9), VECTORS[:, :9])
    assert_same_bits(pickle.loads(pickle.dumps(model)).encode(TEXTS), VECTORS[:, :7])
    model.truncate_dim = None
    assert_same_bits(model.encode(TEXTS), VECTORS)
    path = checkpoints.minilm_copied(tmp_path)
    (path / "config_sentence_transformers.json").write_text(json.dumps({"truncate_dim": 6}))
    assert SentenceTransformer(path).encode("a").shape == (6,)
    assert SentenceTransformer(path, truncate_dim=5).encode("a").shape == (5,)


def test_token_embeddings():
    rows = MODEL.encode(TEXTS, output_value="token_embeddings")
    assert [row.shape for row in rows] == [(9, 384), (5, 384), (2, 384), (42, 384)]
    mean = np.stack([row.mean(0) for row in rows])
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    np.testing.assert_allclose(mean, VECTORS, atol=1e-6)
    one = MODEL.encode(TEXTS[1], output_value="token_embeddings", convert_to_tensor=True)
    assert_same_bits(one.numpy(), rows[1])
    assert MODEL.encode([], output_value="token_embeddings") == []


def test_all_values():
    """output_value=None: a dict for each sentence."""
    rows = MODEL.encode(TEXTS, output_value=None)
    assert_same_bits(np.stack([row["sentence_embedding"] for row in rows]), VECTORS)
    assert rows[1]["input_ids"].tolist() == MODEL.tokenizer(TEXTS[1])["input_ids"]
    assert rows[1]["attention_mask"].tolist() == [1] * 5
    tokens = MODEL.encode(TEXTS, output_value="token_embeddings")
    assert_same_bits([row["token_embeddings"] for row in rows], tokens)
    one = MODEL.encode(TEXTS[0], output_value=None, convert_to_tensor=True)
    assert isinstance(one["sentence_embedding"], torch.Tensor)


def test_blocks_of_values():
    """Several blocks of sentences keep their order."""
    many = [f"{i % 7}" for i in range(4500)]
    rows = MODEL.encode(many, output_value="token_embeddings")
    few = MODEL.encode([str(i) for i in range(7)], output_value="token_embeddings")
    assert_same_bits(rows, [few[i % 7] for i in range(4500)])


def test_prompts_of_the_constructor(tmp_path):
    prompts = {"query": "q: ", "passage": "p: "}
    model = SentenceTransformer(MINILM, prompts=prompts, default_prompt_name="passage")
    assert model.prompts == {"query": "q: ", "document": "", "passage": "p: "}
    assert_same_bits(model.encode("a"), MODEL.encode("p: a"))
    assert_same_bits(model.encode_query("a"), MODEL.encode("q: a"))
    # No prompt "document" is an empty one, and the default does not step in.
    assert_same_bits(model.encode_document("a"), MODEL.encode("a"))
    assert_same_bits(model.encode("a", "query"), MODEL.encode("q: a"))
    assert_same_bits(model.encode("a", prompt=""), MODEL.encode("a"))
    path = checkpoints.minilm_copied(tmp_path)
    (path / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": {"query": "f: ", "x": "g: "}, "default_prompt_name": "x"})
    )
    assert SentenceTransformer(path, prompts={"query": ""}).prompts["query"] == ""
    assert SentenceTransformer(path).prompts == {"query": "f: ", "document": "", "x": "g: "}
    with pytest.raises(ValueError, match="default_prompt_name is 'y'"):
        SentenceTransformer(path, default_prompt_name="y")


def test_attributes_that_a_program_sets():
    """An attribute that is set is checked as the constructor's argument is."""
    model = SentenceTransformer(MINILM)
    model.prompts = {"query": "q: "}
    assert_same_bits(model.encode_query("a"), MODEL.encode("q: a"))
    model.prompts["query"] = 5
    with pytest.raises(ValueError, match=r"prompts is \{'query': 5\}"):
        model.encode_query("a")
    for name, value in (("similarity_fn_name", "nearest"), ("truncate_dim", 0)):
        with pytest.raises(ValueError, match=name):
            setattr(model, name, value)
    model.similarity_fn_name = "dot"
    assert_same_bits(model.similarity(VECTORS, VECTORS), VECTORS_DOT)


def test_prompt_names_of_a_model_without_prompts():
    """encode(queries, prompt_name="query") on a model that has none: an empty prompt."""
    assert MODEL.prompts == {"query": "", "document": ""}
    for name in ("query", "document"):
        assert_same_bits(MODEL.encode("a", prompt_name=name), MODEL.encode("a"))


def test_lengths_of_tasks(tmp_path):
    path = checkpoints.minilm_copied(tmp_path)
    (path / "sentence_bert_config.json").write_text(
        json.dumps({"max_seq_length": 9, "query_length": 4, "document_length": 6})
    )
    model = SentenceTransformer(path)
    words = "a b c d e f g h i j k"
    assert_same_bits(model.encode(words), MODEL.encode("a b c d e f g"))
    assert_same_bits(model.encode_query(words), MODEL.encode("a b"))
    assert_same_bits(model.encode_document(words), MODEL.encode("a b c d"))
    assert_same_bits(model.encode(words, task="query"), MODEL.encode("a b"))
    limit = {"text": {"max_length": 5}}
    assert_same_bits(model.encode_query(words, processing_kwargs=limit), MODEL.encode("a b c"))
    with pytest.raises(ValueError, match="task is 'sort'"):
        model.encode(words, task="sort")


@pytest.mark.parametrize("name", ["tokenizer_kwargs", "processor_kwargs"])
def test_settings_of_the_tokenizer(name):
    model = SentenceTransformer(MINILM, **{name: {"model_max_length": 4}})
    assert model.max_seq_length == model.get_max_seq_length() == 4
    assert_same_bits(model.encode("a b c d"), MODEL.encode("a b"))


class Similarity(Enum):
    """An entry of sentence-transformers' SimilarityFunction has its name as a value."""

    DOT = "dot"


@pytest.mark.parametrize("name", ["cosine", Similarity.DOT, "euclidean", "manhattan"])
def test_similarity_pairwise(name):
    model = SentenceTransformer(MINILM, similarity_fn_name=name)
    a, b = VECTORS[:3] * 2, VECTORS[1:]
    right = np.diag(model.similarity(a, b))
    np.testing.assert_allclose(model.similarity_pairwise(a, b), right, atol=1e-5)
    assert model.similarity_pairwise(list(a), torch.from_numpy(b)).shape == (3,)
    np.testing.assert_allclose(model.similarity_pairwise(a[0], b[0]), right[0], atol=1e-5)
    with pytest.raises(ValueError, match="embeddings1 has 3 rows and embeddings2 2"):
        model.similarity_pairwise(a, b[:2])


def test_arguments_of_a_constructor_that_change_nothing():
    model = SentenceTransformer(
        model_name_or_path=str(MINILM),
        device=torch.device("cpu"),
        cache_folder="/nowhere",
        revision="main",
        local_files_only=True,
        token=False,
        trust_remote_code=False,
        backend="torch",
        model_kwargs={"attn_implementation": "sdpa", "torch_dtype": torch.float32},
        config_kwargs={"output_hidden_states": True},
    )
    assert_same_bits(model.to("cpu").eval().encode(sentences=TEXTS), VECTORS)
    assert_same_bits(model.encode(inputs=TEXTS, device="cpu"), VECTORS)
    assert model.device == "cpu"


def test_dtypes_of_a_constructor():
    low = SentenceTransformer(MINILM, model_kwargs={"torch_dtype": torch.bfloat16}).encode(TEXTS)
    assert_same_bits(low, SentenceTransformer(MINILM, dtype="bfloat16").encode(TEXTS))


REFUSED = {
    "device": ({"device": "cuda"}, ValueError, "device is 'cuda'"),
    "devices": ({"device": ["cpu", "cpu"]}, ValueError, "device is"),
    "code": ({"trust_remote_code": True}, ValueError, "runs no code"),
    "backend": ({"backend": "onnx"}, ValueError, "backend is 'onnx'"),
    "modules": ({"modules": [1]}, ValueError, "modules is"),
    "card": ({"model_card_data": {}}, ValueError, "model_card_data"),
    "float16": ({"model_kwargs": {"torch_dtype": torch.float16}}, ValueError, "torch_dtype"),
    "flash": ({"model_kwargs": {"attn_implementation": "flash_attention_2"}}, ValueError, "attn_"),
    "tokenizer": ({"tokenizer_kwargs": 5}, ValueError, "processor_kwargs is 5"),
    "twice": ({"tokenizer_kwargs": {}, "processor_kwargs": {}}, ValueError, "two names"),
    "config": ({"config_kwargs": {"is_decoder": True}}, ValueError, "is_decoder"),
    "prompts": ({"prompts": "query: "}, ValueError, "prompts is"),
    "prompt": ({"prompts": {"query": 5}}, ValueError, "prompts is"),
    "similarity": ({"similarity_fn_name": "maxsim"}, ValueError, "similarity_fn_name"),
    "dimension": ({"truncate_dim": 0}, ValueError, "truncate_dim"),
    "unknown": ({"nosuch": 1}, TypeError, "no argument nosuch"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_arguments_of_a_constructor_that_are_refused(case):
    options, error, culprit = REFUSED[case]
    with pytest.raises(error, match=NAME) as caught:
        SentenceTransformer(MINILM, **options)
    assert culprit in str(caught.value)


CALLS = {
    "device": ({"device": "cuda:1"}, ValueError, "device"),
    "pool": ({"pool": {}}, ValueError, "pool"),
    "chunks": ({"chunk_size": 5}, ValueError, "chunk_size"),
    "precision": ({"precision": "int4"}, ValueError, "precision is 'int4'"),
    "tokens": ({"precision": "int8", "output_value": None}, ValueError, "precision"),
    "value": ({"output_value": "logits"}, ValueError, "output_value is 'logits'"),
    "dimension": ({"truncate_dim": -1}, ValueError, "truncate_dim"),
    "tensor": ({"convert_to_tensor": 1}, TypeError, "convert_to_tensor"),
    "processing": ({"processing_kwargs": {"text": {"stride": 1}}}, ValueError, "stride"),
    "unknown": ({"nosuch": 1}, TypeError, "no argument nosuch"),
    "two names": ({"inputs": "a"}, TypeError, "two names"),
}


@pytest.mark.parametrize("case", CALLS)
def test_arguments_of_a_call_that_are_refused(case):
    options, error, culprit = CALLS[case]
    with pytest.raises(error, match=NAME + r"\.encode: ") as caught:
        MODEL.encode(TEXTS, **options)
    assert culprit in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"precision": "int8"},
        {"precision": "binary", "truncate_dim": 64},
        {"normalize_embeddings": True, "truncate_dim": 50, "convert_to_tensor": True},
        {"prompt": "about cats: "},
        {"prompt_name": "query"},
        {"output_value": "token_embeddings", "convert_to_tensor": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["encode", "encode_query", "encode_document"])
def test_against_sentence_transformers(options, method):
    """Where sentence-transformers is installed: the same kinds, shapes and numbers."""
    package = pytest.importorskip("sentence_transformers")
    prompts = {"query": "q: ", "passage": "p: "}
    arguments = {"device": "cpu", "prompts": prompts, "default_prompt_name": "passage"}
    right = getattr(package.SentenceTransformer(str(MINILM), **arguments), method)(TEXTS, **options)
    found = getattr(SentenceTransformer(MINILM, **arguments), method)(TEXTS, **options)
    assert type(found) is type(right)
    for a, b in zip(found, right, strict=True):
        assert a.dtype == b.dtype
        # A number at the border of two levels may fall on either side.
        tolerance = 1 if options.get("precision") == "int8" else 1e-5
        np.testing.assert_allclose(np.asarray(a, float), np.asarray(b, float), atol=tolerance)

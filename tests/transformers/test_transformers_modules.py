"""modules.json: Dense, Normalize, folders, and everything that may be wrong with the files."""

import json

import pytest
import safetensors.torch
import torch
from test_transformers_sentence import MODEL, SENTENCES, changed, expected, modules

from support.checkpoints import assert_close
from support.tolerance import assert_same_bits
from treadle.transformers import SentenceTransformer


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", ["Tanh", "ReLU", "GELU", "SiLU", "Sigmoid", "Identity"])
def test_dense(tmp_path, activation, bias):
    torch.manual_seed(0)
    linear = torch.nn.Linear(384, 20, bias=bias)
    package = (
        "torch.nn.modules.linear" if activation == "Identity" else "torch.nn.modules.activation"
    )
    config = {
        "in_features": 384,
        "out_features": 20,
        "bias": bias,
        "activation_function": f"{package}.{activation}",
    }
    path = changed(tmp_path, modules=modules("Pooling", "Dense"), **{"2_Dense__config": config})
    tensors = {f"linear.{k}": v.detach() for k, v in linear.named_parameters()}
    safetensors.torch.save_file(tensors, path / "2_Dense" / "model.safetensors")
    model = SentenceTransformer(path)
    act = getattr(torch.nn, activation)()
    with torch.inference_mode():
        exact, rounded = expected(SENTENCES[:6], "mean")
        rounded, exact = act(linear(rounded)), act(linear.double()(exact))
    assert model.get_sentence_embedding_dimension() == 20
    assert_close(model.encode(SENTENCES[:6]), exact, rounded)


def test_encoder_in_a_folder(tmp_path):
    """The older layout, and the names of the present version."""
    path = changed(tmp_path)
    (path / "0_Transformer").mkdir()
    for file in [*path.glob("*.json"), path / "model.safetensors"]:
        if file.name not in ("modules.json", "config_sentence_transformers.json"):
            file.rename(path / "0_Transformer" / file.name)
    steps = modules(
        "Pooling", "Dropout", "Normalize", package="sentence_transformers.base.modules.x"
    )
    steps[0]["path"] = "0_Transformer"
    (path / "modules.json").write_text(json.dumps(steps))
    assert_same_bits(SentenceTransformer(path).encode("Hello"), MODEL.encode("Hello"))


def step(**changes):
    return [*modules("Pooling"), modules("Pooling", "Normalize")[2] | changes]


HOSTILE = {
    "modules is an object": {"modules": {}},
    "modules empty": {"modules": []},
    "modules of numbers": {"modules": [1, 2]},
    "no pooling": {"modules": modules("Normalize")},
    "two poolings": {"modules": modules("Pooling", "Pooling")},
    "two encoders": {"modules": modules("Pooling", "Transformer")},
    "pooling first": {"modules": modules("Pooling")[1:]},
    "unknown module": {"modules": modules("Pooling", "LSTM")},
    "code of a stranger": {"modules": step(type="stranger.code.Normalize")},
    "type is a number": {"modules": step(type=3)},
    "path outside": {"modules": [modules("Pooling")[0], modules("Pooling")[1] | {"path": "../x"}]},
    "path absolute": {"modules": step(path="/etc")},
    "path is a number": {"modules": step(path=3)},
    "path up": {"modules": step(path="..")},
    "pooling unknown": {"1_Pooling__config": {"pooling_mode": "median"}},
    "pooling a number": {"1_Pooling__config": {"pooling_mode": 3}},
    "pooling empty": {"1_Pooling__config": {"pooling_mode": []}},
    "pooling twice": {"1_Pooling__config": {"pooling_mode": ["mean", "mean"]}},
    "pooling of lists": {"1_Pooling__config": {"pooling_mode": [["mean"]]}},
    "pooling of another size": {"1_Pooling__config": {"word_embedding_dimension": 768}},
    "pooling include_prompt": {"1_Pooling__config": {"include_prompt": "no"}},
    "max_seq_length zero": {"sentence_bert_config": {"max_seq_length": 0}},
    "max_seq_length text": {"sentence_bert_config": {"max_seq_length": "256"}},
    "max_seq_length NaN": {"sentence_bert_config": {"max_seq_length": float("nan")}},
    "settings a list": {"sentence_bert_config": [1]},
    "prompts a list": {"config_sentence_transformers": {"prompts": ["x"]}},
    "prompts of numbers": {"config_sentence_transformers": {"prompts": {"query": 3}}},
    "prompts of surrogates": {"config_sentence_transformers": {"prompts": {"query": "\ud800"}}},
    "default prompt": {"config_sentence_transformers": {"default_prompt_name": "nosuch"}},
    "default prompt a list": {"config_sentence_transformers": {"default_prompt_name": []}},
    "similarity": {"config_sentence_transformers": {"similarity_fn_name": "os.system"}},
    "similarity a list": {"config_sentence_transformers": {"similarity_fn_name": ["dot"]}},
}
DENSE = {
    "in_features": 383, "out_features": 0, "bias": "yes", "activation_function": "os.system",
    "use_residual": True, "module_input_name": "token_embeddings", "module_output_name": "x",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(tmp_path, name):
    path = changed(tmp_path, **HOSTILE[name])
    with pytest.raises((ValueError, TypeError), match=r"^treadle\.transformers\."):
        SentenceTransformer(path)


@pytest.mark.parametrize("name", [*DENSE, "no weights", "a pickle", "wrong weights"])
def test_hostile_dense(tmp_path, name):
    config = {"in_features": 384, "out_features": 20}
    if name in DENSE:
        config[name] = DENSE[name]
    path = changed(tmp_path, modules=modules("Pooling", "Dense"), **{"2_Dense__config": config})
    if name == "a pickle":
        (path / "2_Dense" / "pytorch_model.bin").write_bytes(b"")
    elif name != "no weights":
        rows = 21 if name == "wrong weights" else 20
        tensors = {"linear.weight": torch.zeros(rows, 384), "linear.bias": torch.zeros(20)}
        safetensors.torch.save_file(tensors, path / "2_Dense" / "model.safetensors")
    error = FileNotFoundError if name == "no weights" else ValueError
    with pytest.raises(error, match=r"^treadle\.transformers\.SentenceTransformer"):
        SentenceTransformer(path)


def test_missing_directories(tmp_path):
    with pytest.raises(FileNotFoundError, match="hf download"):
        SentenceTransformer("sentence-transformers/all-MiniLM-L6-v2")
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        SentenceTransformer(tmp_path)
    path = changed(tmp_path, **{"1_Pooling__config": None})
    with pytest.raises(FileNotFoundError, match="1_Pooling"):
        SentenceTransformer(path)

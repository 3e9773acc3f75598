"""Model directories that are not what they should be: each is refused, and nothing is lost."""

import json
import os
import pickle
import resource
from pathlib import Path

import pytest
import torch

from support import checkpoints, hostile
from support.checkpoints import load, weights, write
from support.systems import linux
from treadle import transformers


def assert_refused(path, error=ValueError, match="hostile", head=""):
    with pytest.raises(error, match=match) as caught:
        load(path, head)
    message = str(caught.value)
    assert message.startswith("treadle.transformers.AutoModel"), message
    assert len(message) < 800


@pytest.mark.parametrize("path", [None, 5, 1.5, [], b"x\0y"], ids=repr)
def test_wrong_paths(path):
    with pytest.raises(TypeError, match=r"^treadle\.transformers\.AutoModel.*: directory"):
        load(path)


def test_missing_directories(tmp_path):
    assert_refused(tmp_path / "hostile", FileNotFoundError, "hf download")
    assert_refused("sentence-transformers/all-MiniLM-L6-v2", FileNotFoundError, "hf download")
    (tmp_path / "hostile").write_text("x")
    assert_refused(tmp_path / "hostile", NotADirectoryError)
    assert_refused("hostile\0", ValueError, "null")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_missing_files(tmp_path, name):
    path = checkpoints.copied(tmp_path)
    (path / name).unlink()
    assert_refused(path, FileNotFoundError, name)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_no_regular_files(tmp_path, name):
    path = checkpoints.copied(tmp_path)
    (path / name).unlink()
    os.mkfifo(path / name)
    assert_refused(path, ValueError, "regular")
    (path / name).unlink()
    (path / name).mkdir()
    assert_refused(path, ValueError, "regular")


def test_pickles_are_refused(tmp_path):
    """With the way to convert them, and without a look inside."""
    path = checkpoints.copied(tmp_path)
    (path / "model.safetensors").unlink()
    (path / "pytorch_model.bin").write_bytes(pickle.dumps({}))
    assert_refused(path, ValueError, r"pytorch_model\.bin.*never unpickles.*save_pretrained")
    (path / "pytorch_model.bin").rename(path / "model.safetensors")
    assert_refused(path)


CONFIGURATIONS = {
    "model_type": ["gpt2", "BERT", "", None, 3, [], "__class__"],
    "hidden_size": [0, -36, 35, 38, 72, 2**31, 2**40, 10**30, 36.0, "36", None, True, [36]],
    "num_attention_heads": [0, -3, 5, 7, 2**31, 3.0, "3", None],
    "num_hidden_layers": [0, -1, 3, 4097, 10**9, 2.0, "2", None, False],
    "intermediate_size": [0, -50, 49, 2**40, 50.0, None],
    "vocab_size": [0, -99, 98, 100, 2**31 - 1, 2**64, None],
    "max_position_embeddings": [0, -1, 39, 41, 2**31 - 1, "40"],
    "type_vocab_size": [0, 1, 3, -2, None],
    "layer_norm_eps": [-1e-12, 1, 5, "1e-12", None, True, [], 10**400],
    "pad_token_id": [-1, 99, "0", 0.5],
    "hidden_act": ["quick_gelu", "os.system", "", None, 1, ["gelu"]],
    "position_embedding_type": ["relative_key", "relative_key_query", 1, ""],
    "is_decoder": [True, 1, "false"],
    "add_cross_attention": [True],
    "tie_word_embeddings": ["yes", 1],
    "id2label": [
        [], "x", 3, {"a": "b"}, {"0": 1}, {"1": "x"}, {"-1": "x"}, {"0": "a", "2": "b"},
        {"0": "a", "00": "b"}, {"1" * 5000: "x"},
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value"),
    [(key, value) for key, values in CONFIGURATIONS.items() for value in values],
    ids=lambda value: repr(value)[:40],
)
def test_hostile_configurations(tmp_path, key, value):
    path = checkpoints.copied(tmp_path)
    file = path / "config.json"
    entries = json.loads(file.read_text())
    file.write_text(json.dumps(entries | {key: value}))
    assert_refused(path)


TEXTS = {
    "empty": b"",
    "no JSON": b"model_type: bert",
    "list": b"[]",
    "null": b"null",
    "cut": b'{"model_type": "bert"',
    "deep": b'{"x":' * 100_000,
    "NaN": b'{"model_type": "bert", "layer_norm_eps": NaN}',
    "infinity": b'{"model_type": "bert", "layer_norm_eps": Infinity}',
    "overflow": b'{"model_type": "bert", "layer_norm_eps": 1e999}',
    "twice": b'{"model_type": "bert", "model_type": "roberta"}',
    "not UTF-8": b'{"model_type": "b\xffrt"}',
    "long": b'{"x": "' + b"x" * 2**24 + b'"}',
    "long number": b'{"hidden_size": ' + b"9" * 10_000 + b"}",
}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("file", ["config.json", "model.safetensors.index.json"])
def test_hostile_json(tmp_path, name, file):
    path = checkpoints.copied(tmp_path)
    if file != "config.json":
        (path / "model.safetensors").unlink()
    (path / file).write_bytes(TEXTS[name])
    assert_refused(path)


def test_configurations_of_roberta(tmp_path):
    """Positions count from pad_token_id: one at least must be left."""
    path = checkpoints.copied(tmp_path, "roberta")
    file = path / "config.json"
    entries = json.loads(file.read_text())
    for value in (None, 39, 98, -1):
        file.write_text(json.dumps(entries | {"pad_token_id": value}))
        assert_refused(path)


def test_entries_do_not_hide_methods(tmp_path):
    path = checkpoints.copied(tmp_path)
    file = path / "config.json"
    more = {"to_dict": 1, "__class__": "x", "__dict__": {}, "__init__": 2, "harmless": 3}
    file.write_text(json.dumps(json.loads(file.read_text()) | more))
    config = load(path).config
    assert config.to_dict()["harmless"] == config.harmless == 3
    assert type(config).__name__ == "Config"


INDEXES = {
    "no weight_map": {"metadata": {}},
    "weight_map a list": {"weight_map": []},
    "weight_map empty": {"weight_map": {}},
    "a number for a file": {"weight_map": {"x": 3}},
    "null for a file": {"weight_map": {"x": None}},
    "a file that is missing": {"weight_map": {"x": "model-9.safetensors"}},
    "a tensor that is elsewhere": {"weight_map": {"x": "shard.safetensors"}},
    "too many files": {"weight_map": {f"x{i}": f"m{i}.safetensors" for i in range(600)}},
}
OUTSIDE = [
    "../outside.safetensors", "/etc/passwd", "sub/x.safetensors", "..", ".", "", "a\\b",
    "../../../../../../../../etc/passwd", "x\0.safetensors", "./shard.safetensors",
    "/proc/self/mem", "file:///etc/passwd",
]  # fmt: skip


@pytest.mark.parametrize("name", [*INDEXES, *OUTSIDE], ids=repr)
def test_hostile_indexes(tmp_path, name):
    path = checkpoints.copied(tmp_path)
    safe = path / "model.safetensors"
    (tmp_path / "outside.safetensors").write_bytes(safe.read_bytes())
    (path / "sub").mkdir()
    (path / "sub" / "x.safetensors").write_bytes(safe.read_bytes())
    safe.rename(path / "shard.safetensors")
    index = INDEXES.get(name, {"weight_map": dict.fromkeys(weights_names(), name)})
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    missing = name in ("a file that is missing", "too many files")
    assert_refused(path, FileNotFoundError if missing else ValueError)


def weights_names():
    return checkpoints.theirs("bert").state_dict()


def test_too_many_shards(tmp_path):
    path = checkpoints.copied(tmp_path)
    data = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").unlink()
    name = next(iter(weights_names()))
    header, payload = hostile.split(data)
    size = header[name]["data_offsets"][1] - header[name]["data_offsets"][0]
    one = hostile.join({name: header[name] | {"data_offsets": [0, size]}}, payload[:size])
    for number in range(600):
        (path / f"m{number}.safetensors").write_bytes(one)
    index = {f"{name}{i}": f"m{i}.safetensors" for i in range(600)} | {name: "m0.safetensors"}
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    assert_refused(path)


WRONG_TENSORS = {
    "missing": lambda w: None,
    "transposed": lambda w: w.T[:, :, None] if w.ndim == 2 else w[:, None],
    "one row less": lambda w: w[1:],
    "flat": lambda w: w.reshape(-1)[: w.numel() - 1],
    "one axis more": lambda w: w[None],
    "float64": torch.Tensor.double,
    "int64": lambda w: w.to(torch.int64),
    "bool": lambda w: w > 0,
    "float8": lambda w: w.to(torch.float8_e4m3fn),
    "complex": lambda w: w.to(torch.complex64),
    "empty": lambda w: w[:0],
}


@pytest.mark.parametrize("name", WRONG_TENSORS)
@pytest.mark.parametrize(
    "tensor",
    [
        "embeddings.word_embeddings.weight",
        "embeddings.LayerNorm.bias",
        "encoder.layer.1.attention.self.key.weight",
        "encoder.layer.1.output.dense.bias",
        "pooler.dense.bias",
    ],
)
def test_wrong_tensors(tmp_path, tensor, name):
    path = checkpoints.copied(tmp_path)
    tensors = weights(path)
    changed = WRONG_TENSORS[name](tensors.pop(tensor))
    if changed is not None:
        tensors[tensor] = changed.contiguous()
    write(path, tensors)
    assert_refused(path, match=tensor.replace(".", r"\."))


@pytest.mark.parametrize("head", checkpoints.HEADS[1:])
def test_missing_and_wrong_heads(tmp_path, head):
    """No random numbers in the place of weights."""
    path = checkpoints.copied(tmp_path)
    assert_refused(path, match="has no tensor", head=head)
    with_head = checkpoints.copied(tmp_path / "x", "bert", head)
    tensors = weights(with_head)
    name = next(n for n in tensors if n.startswith(("classifier.w", "qa_outputs.w", "cls.")))
    write(with_head, tensors | {name: torch.zeros(2, 35)})
    assert_refused(with_head, head=head)


def test_a_head_without_labels(tmp_path):
    path = checkpoints.copied(tmp_path, "bert", "TokenClassification")
    file = path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"id2label": {}}))
    assert_refused(path, match="labels", head="TokenClassification")


HOSTILE = hostile.foreign_variants((checkpoints.saved("bert") / "model.safetensors").read_bytes())
# A good file of somebody else's: tensors that the model does not need.
HARMLESS = {"empty tensor more"}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(tmp_path, name):
    path = checkpoints.copied(tmp_path)
    (path / "model.safetensors").write_bytes(HOSTILE[name])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if name in HARMLESS:
        load(path)
    else:
        assert_refused(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**16  # KiB


def test_huge_sizes_take_no_memory(tmp_path):
    """A configuration and a header that agree on a petabyte, in a file of a few kilobytes."""
    path = checkpoints.copied(tmp_path)
    file = path / "config.json"
    entries = json.loads(file.read_text())
    file.write_text(json.dumps(entries | {"vocab_size": 2**31 - 1}))
    data = (path / "model.safetensors").read_bytes()
    name = "embeddings.word_embeddings.weight"
    (path / "model.safetensors").write_bytes(
        hostile.edited(data, lambda h: h[name].update(shape=[2**31 - 1, 36]))
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert_refused(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**14  # KiB


def test_a_file_that_shrinks(tmp_path, monkeypatch):
    """Between the check and the reading: an error, not a signal."""
    path = checkpoints.copied(tmp_path)
    from treadle.transformers.checkpoint import Checkpoint

    check = Checkpoint.check

    def check_then_cut(self, *args):
        check(self, *args)
        os.truncate(path / "model.safetensors", 20_000)

    monkeypatch.setattr(Checkpoint, "check", check_then_cut)
    assert_refused(path, match="cut short")


@linux
def test_no_files_stay_open(tmp_path):
    path = checkpoints.copied(tmp_path)
    load(path)
    assert_open_files(path, 0)
    (path / "model.safetensors").write_bytes(HOSTILE["one byte more"])
    assert_refused(path)
    assert_open_files(path, 0)


def assert_open_files(path, count):
    links = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
             if Path(f"/proc/self/fd/{fd}").exists()]  # fmt: skip
    assert sum(link.startswith(str(path)) for link in links) == count


def test_only_made_by_from_pretrained():
    with pytest.raises(TypeError, match="from_pretrained"):
        transformers.AutoModel()
    with pytest.raises(TypeError, match="from_pretrained"):
        transformers.AutoTokenizer()

"""The families that generate: config.json and tensors become a stack, which NumPy then computes.

`reference.decoder` on the weights that treadle maps is Transformers' model, to rounding. Files that
lie are refused before memory is taken.
"""

import json
import shutil

import numpy as np
import pytest
import safetensors.torch
import torch
import transformers

from support import generators, hostile
from support.checkpoints import assert_close
from treadle._storage import formats
from treadle.transformers.checkpoint import Checkpoint
from treadle.transformers.directory import read_json
from treadle.transformers.generating import open_weights, read_description, read_generation_config
from treadle.transformers.stack_shapes import FAMILIES, read_shapes

LENGTH, WRITTEN = 23, 17


def theirs(model, ids, decoder_ids):
    """Transformers' logits of one sequence, in float64 and in float32."""
    given = {"input_ids": torch.from_numpy(ids)[None]}
    if model.config.is_encoder_decoder:
        given["decoder_input_ids"] = torch.from_numpy(decoder_ids)[None]
    with torch.inference_mode():
        rounded = model(**given).logits[0]
        exact = model.double()(**given).logits[0]
    model.float()
    return exact, rounded


def assert_same_function(model, path, dtype=np.float64):
    ids, written = generators.ids(LENGTH), generators.ids(WRITTEN, 1)
    exact, rounded = theirs(model, ids, written)
    found = generators.logits(path, ids, written, dtype)
    assert_close(found.astype(np.float32), exact, rounded)


@pytest.mark.parametrize("case", generators.CASES)
def test_mapped_weights_are_transformers_model(case):
    assert_same_function(generators.theirs(case), generators.saved(case))


def rewritten(tmp_path, case, change):
    """A copy of a saved model whose entries of config.json `change` changes."""
    path = tmp_path / "model"
    shutil.copytree(generators.saved(case), path)
    file = path / "config.json"
    entries = json.loads(file.read_text())
    change(entries)
    file.write_text(json.dumps(entries))
    return path


def as_version_4(entries):
    """Write rotary positions as Transformers 4 did: rope_theta beside rope_scaling."""
    given = entries.pop("rope_parameters")
    kinds = [k for k, v in given.items() if isinstance(v, dict)]
    plain = given["full_attention"] if kinds else given
    entries["rope_theta"] = plain.pop("rope_theta")
    if kinds:
        entries["rope_local_base_freq"] = given["sliding_attention"]["rope_theta"]
        entries.pop("layer_types")
    if plain["rope_type"] != "default":
        plain["type"] = plain.pop("rope_type")
        entries["rope_scaling"] = plain
    if "partial_rotary_factor" in plain:
        entries["rotary_pct"] = plain["partial_rotary_factor"]
        entries["rotary_emb_base"] = entries.pop("rope_theta")


@pytest.mark.parametrize(
    "case",
    ["gpt_neox", "llama", "llama-linear", "llama-llama3", "llama-yarn", "gemma2", "gemma3_text"],
)
def test_configurations_of_version_4(tmp_path, case):
    path = rewritten(tmp_path, case, as_version_4)
    old, new = (
        read_shapes("x", FAMILIES[case.split("-")[0]], read_json("x", p, "config.json"))
        for p in (path, generators.saved(case))
    )
    assert old.decoder.specs == new.decoder.specs


def without_prefix(tensors, prefix):
    return {name.removeprefix(prefix): value for name, value in tensors.items()}


@pytest.mark.parametrize("case", ["gpt2", "llama-biases", "bart"])
def test_names_without_prefix(tmp_path, case):
    """A checkpoint of the stacks alone, where the head is the table of tokens."""
    path = rewritten(tmp_path, case, lambda entries: None)
    tensors = safetensors.torch.load_file(path / "model.safetensors")
    family = FAMILIES[case.split("-")[0]]
    safetensors.torch.save_file(without_prefix(tensors, family.prefix), path / "model.safetensors")
    ids, written = generators.ids(9), generators.ids(8, 1)
    expected = generators.logits(generators.saved(case), ids, written)
    np.testing.assert_array_equal(generators.logits(path, ids, written), expected)


def test_gpt_neox_head_by_its_older_name(tmp_path):
    path = rewritten(tmp_path, "gpt_neox", lambda entries: None)
    tensors = safetensors.torch.load_file(path / "model.safetensors")
    name = next(n for n in ("lm_head.weight", "embed_out.weight") if n in tensors)
    other = {"lm_head.weight": "embed_out.weight", "embed_out.weight": "lm_head.weight"}[name]
    tensors[other] = tensors.pop(name)
    safetensors.torch.save_file(tensors, path / "model.safetensors")
    ids = generators.ids(9)
    expected = generators.logits(generators.saved("gpt_neox"), ids)
    np.testing.assert_array_equal(generators.logits(path, ids), expected)


@pytest.mark.parametrize("same", [True, False])
def test_a_tied_head_that_the_file_has_too(tmp_path, same):
    """Equal tensors are one; a different one counts, whatever tie_word_embeddings says."""
    path = rewritten(tmp_path, "llama-biases", lambda entries: None)
    tensors = safetensors.torch.load_file(path / "model.safetensors")
    table = tensors["model.embed_tokens.weight"]
    tensors["lm_head.weight"] = table.clone() if same else table * 2
    safetensors.torch.save_file(tensors, path / "model.safetensors", {"format": "pt"})
    _, _, weights = generators.stacks(path)
    assert ("head.weight" in weights) == (not same)
    model = transformers.AutoModelForCausalLM.from_pretrained(path, attn_implementation="eager")
    assert_same_function(model.eval(), path)


def test_shards(tmp_path):
    path = tmp_path / "shards"
    generators.theirs("t5").save_pretrained(path, max_shard_size="20KB")
    assert len(list(path.glob("*.safetensors"))) > 2
    ids, written = generators.ids(9), generators.ids(8, 1)
    expected = generators.logits(generators.saved("t5"), ids, written)
    np.testing.assert_array_equal(generators.logits(path, ids, written), expected)


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
@pytest.mark.parametrize("case", ["gpt2", "gpt_neox", "t5-gated", "llama"])
def test_rounded_weights(case, dtype):
    """Matrices come rounded as `formats.encode` rounds them, vectors and tables do not."""
    path = generators.saved(case)
    exact = generators.stacks(path)[2]
    config = read_description("x", str(path), FAMILIES)
    with Checkpoint("x", str(path)) as checkpoint:
        weights = open_weights(checkpoint, config.family, config.shapes, dtype)[1]
        assert len(weights) == len(list(weights)) == len(exact)
        for name in weights:
            if isinstance(exact[name], float):
                assert weights[name] == exact[name]
                continue
            table = exact[name].ndim == 1 or name in ("embed.weight", "relative_bias")
            table = table or name == "positions.weight"
            assert formats.dtype_of(weights[name]) == ("float32" if table else dtype)
            expected = exact[name] if table else formats.encode(exact[name], dtype)
            np.testing.assert_array_equal(
                formats.decode(weights[name]), formats.decode(expected), err_msg=name
            )


def open_all(path, families=FAMILIES):
    """Read everything that a model is made of, as from_pretrained does before it packs."""
    found = read_description("test", str(path), families)
    read_generation_config("test", str(path), found.config)
    with Checkpoint("test", str(path)) as checkpoint:
        open_weights(checkpoint, found.family, found.shapes, "float32")


HUGE = 2**31
WRONG_ENTRIES = [
    ("llama", {"model_type": "gemma4"}, "model_type"),
    ("llama", {"model_type": ["llama"]}, "model_type"),
    ("llama", {"vocab_size": 98}, "shape"),
    ("llama", {"vocab_size": 0}, "vocab_size"),
    ("llama", {"vocab_size": HUGE}, "vocab_size"),
    ("llama", {"vocab_size": "99"}, "vocab_size"),
    ("llama", {"hidden_size": -36}, "hidden_size"),
    ("llama", {"hidden_size": 36.0}, "hidden_size"),
    ("llama", {"num_hidden_layers": 4}, "layers.3"),
    ("llama", {"num_hidden_layers": 4000}, "layers.3"),
    ("llama", {"num_hidden_layers": 10**9}, "num_hidden_layers"),
    ("llama", {"num_attention_heads": 7}, "num_key_value_heads|num_attention_heads"),
    ("llama", {"num_key_value_heads": 4}, "num_key_value_heads"),
    ("llama", {"num_key_value_heads": 3}, "shape"),
    ("llama", {"head_dim": 8}, "shape"),
    ("llama", {"head_dim": 10**6}, "head_dim"),
    ("llama", {"hidden_act": "eval"}, "hidden_act"),
    ("llama", {"rms_norm_eps": -1}, "rms_norm_eps"),
    ("llama", {"rms_norm_eps": None}, "rms_norm_eps"),
    ("llama", {"tie_word_embeddings": "yes"}, "tie_word_embeddings"),
    ("llama", {"attention_bias": True}, "q_proj.bias"),
    ("llama", {"rope_parameters": []}, "rope_parameters"),
    ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "rope_type"),
    ("llama", {"rope_parameters": {"rope_type": "linear"}}, "factor"),
    ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 0}}, "factor"),
    ("llama", {"rope_parameters": {"rope_theta": 1e400}}, "JSON|rope_theta"),
    ("llama", {"rope_parameters": {"rope_theta": "10000"}}, "rope_theta"),
    ("llama", {"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, "low_freq_factor"),
    ("llama", {"partial_rotary_factor": 0.01}, "partial_rotary_factor"),
    ("llama", {"quantization_config": {"bits": 4}}, "quantization_config"),
    ("llama", {"auto_map": {"AutoModel": "x.py"}}, "auto_map"),
    ("llama", {"output_attentions": 1}, "output_attentions"),
    ("mistral", {"sliding_window": 0}, "sliding_window"),
    ("qwen2-windows", {"use_sliding_window": 1}, "use_sliding_window"),
    ("gemma2", {"layer_types": ["full_attention"]}, "layer_types"),
    ("gemma2", {"layer_types": [1, 2, 3, 4]}, "layer_types"),
    ("gemma2", {"query_pre_attn_scalar": 0}, "query_pre_attn_scalar"),
    ("gemma2", {"final_logit_softcapping": -1.0}, "final_logit_softcapping"),
    ("gemma3_text", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
    ("gpt2", {"n_positions": 65}, "shape"),
    ("gpt2", {"n_head": 5}, "n_head"),
    ("gpt2", {"n_inner": 51}, "shape"),
    ("gpt2", {"add_cross_attention": True}, "add_cross_attention"),
    ("gpt_neox", {"use_parallel_residual": None}, "use_parallel_residual"),
    ("marian", {"d_model": 37}, "attention_heads"),
    ("marian", {"max_position_embeddings": 2**30}, "max_position_embeddings"),
    ("marian-two-tables", {"share_encoder_decoder_embeddings": True}, "shape"),
    ("marian-two-tables", {"decoder_vocab_size": 78}, "shape"),
    ("m2m_100", {"pad_token_id": None}, "pad_token_id"),
    ("m2m_100", {"pad_token_id": 2**40}, "pad_token_id"),
    ("bart", {"encoder_layers": 3}, "layers.2"),
    ("bart", {"decoder_attention_heads": 5}, "decoder_attention_heads"),
    ("t5", {"relative_attention_num_buckets": 10}, "shape"),
    ("t5", {"relative_attention_num_buckets": 7}, "relative_attention_num_buckets"),
    ("t5", {"relative_attention_num_buckets": 0}, "relative_attention_num_buckets"),
    ("t5", {"relative_attention_num_buckets": 2**30}, "relative_attention_num_buckets"),
    ("t5", {"relative_attention_max_distance": 2}, "relative_attention_max_distance"),
    ("t5", {"feed_forward_proj": "gated-relu"}, "wi_0"),
    ("t5", {"feed_forward_proj": "gated-gated-relu"}, "feed_forward_proj"),
    ("t5", {"feed_forward_proj": 3}, "feed_forward_proj"),
    ("t5", {"num_decoder_layers": 3}, "block.2"),
]


@pytest.mark.parametrize(("case", "changes", "match"), WRONG_ENTRIES, ids=str)
def test_wrong_entries(tmp_path, case, changes, match):
    path = rewritten(tmp_path, case, lambda entries: entries.update(changes))
    with pytest.raises(ValueError, match=match) as error:
        open_all(path)
    assert str(error.value).startswith("test: ")


@pytest.mark.parametrize(
    ("case", "name"),
    [
        ("llama", "lm_head.weight"),
        ("llama", "model.norm.weight"),
        ("llama-biases", "model.embed_tokens.weight"),
        ("bart", "model.shared.weight"),
        ("bart", "model.encoder.embed_positions.weight"),
        ("t5", "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"),
        ("t5", "decoder.block.1.layer.1.EncDecAttention.q.weight"),
        ("gpt2", "transformer.wpe.weight"),
        ("qwen3", "model.layers.1.self_attn.q_norm.weight"),
    ],
)
def test_missing_tensors(tmp_path, case, name):
    path = rewritten(tmp_path, case, lambda entries: None)
    tensors = safetensors.torch.load_file(path / "model.safetensors")
    del tensors[name]
    safetensors.torch.save_file(tensors, path / "model.safetensors")
    with pytest.raises(ValueError, match="has no tensor"):
        open_all(path)


@pytest.mark.parametrize(
    "content",
    [
        {"eos_token_id": -1},
        {"eos_token_id": "2"},
        {"num_beams": 10**30},
        {"max_length": "long"},
        {"top_k": [], "do_sample": True},
        {"repetition_penalty": 0},
        {"bad_words_ids": {}},
        [],
    ],
    ids=str,
)
def test_wrong_generation_configs(tmp_path, content):
    path = rewritten(tmp_path, "llama", lambda entries: None)
    (path / "generation_config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="generation_config"):
        open_all(path)


def test_options_in_older_configurations(tmp_path):
    """Without generation_config.json, the options of config.json count."""
    path = rewritten(tmp_path, "bart", lambda e: e.update(num_beams=4, max_length=17))
    (path / "generation_config.json").unlink()
    config = read_description("x", str(path), FAMILIES).config
    found = read_generation_config("x", str(path), config)
    assert (found.num_beams, found.max_length) == (4, 17)
    assert (found.eos_token_id, found.decoder_start_token_id) == (2, 2)


def test_shards_are_names_in_the_directory(tmp_path):
    path = tmp_path / "shards"
    generators.theirs("llama").save_pretrained(path, max_shard_size="20KB")
    file = path / "model.safetensors.index.json"
    index = json.loads(file.read_text())
    name = next(iter(index["weight_map"]))
    for target in ("../model.safetensors", "/etc/passwd", "", 3, "a/b.safetensors"):
        index["weight_map"][name] = target
        file.write_text(json.dumps(index))
        with pytest.raises(ValueError, match="without a path"):
            open_all(path)


def test_huge_sizes_take_no_memory(tmp_path):
    """A configuration and a header agree on a petabyte, in a file of a few kilobytes."""
    path = rewritten(tmp_path, "llama", lambda entries: entries.update(vocab_size=2**31 - 1))
    data = (path / "model.safetensors").read_bytes()
    shape = [2**31 - 1, 36]
    (path / "model.safetensors").write_bytes(
        hostile.edited(data, lambda h: h["model.embed_tokens.weight"].update(shape=shape))
    )
    with pytest.raises(ValueError, match="bytes"):
        open_all(path)

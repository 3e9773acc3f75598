"""Small random models that generate, saved by Transformers, and the NumPy definition run on them.

Transformers computes some norms and the softmax in float32 even in a model of float64, so that the
truth is `reference.decoder` on the weights that treadle's mapping gives; that it is the same
function is tested against Transformers itself.
"""

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import torch
import transformers

from reference import decoder as reference
from support import checkpoints
from treadle.transformers.checkpoint import Checkpoint
from treadle.transformers.directory import read_json
from treadle.transformers.generating import open_weights
from treadle.transformers.stack_shapes import FAMILIES, read_shapes

assert checkpoints.ROOT  # importing it has told Transformers to fetch nothing
ROOT = tempfile.TemporaryDirectory(prefix="treadle-generators-")
VOCABULARY = 99
_BART = {
    "d_model": 36,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 3,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 50,
    "decoder_ffn_dim": 44,
    "max_position_embeddings": 40,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": None,
}
_T5 = {
    "d_model": 36,
    "d_kv": 10,
    "d_ff": 50,
    "num_layers": 3,
    "num_decoder_layers": 2,  # Transformers' cache is too small for more than the encoder has
    "num_heads": 3,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 20,
    "decoder_start_token_id": 0,
}
_CAUSAL = {
    "hidden_size": 36,
    "intermediate_size": 50,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 1,
}
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
_YARN = {
    "rope_type": "yarn",
    "rope_theta": 1000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 16,
}
_GEMMA = {"head_dim": 8, "query_pre_attn_scalar": 20, "sliding_window": 5, "num_hidden_layers": 4}
# name -> (class of the configuration, entries)
CASES = {
    "marian": ("MarianConfig", _BART | {"decoder_start_token_id": 1, "scale_embedding": True}),
    "marian-two-tables": (
        "MarianConfig",
        _BART
        | {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": 77}
        | {"decoder_start_token_id": 1, "tie_word_embeddings": False},
    ),
    "bart": ("BartConfig", _BART),
    "mbart": ("MBartConfig", _BART | {"scale_embedding": True}),
    "m2m_100": ("M2M100Config", _BART),
    "t5": ("T5Config", _T5),
    "t5-gated": (
        "T5Config",
        _T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    ),
    "mt5": ("MT5Config", _T5 | {"feed_forward_proj": "gated-silu"}),
    "gpt2": (
        "GPT2Config",
        {"n_embd": 36, "n_layer": 3, "n_head": 3, "n_positions": 64, "n_inner": 50}
        | {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1},
    ),
    "gpt2-scales": (
        "GPT2Config",
        {"n_embd": 24, "n_layer": 3, "n_head": 2, "n_positions": 64, "bos_token_id": 0}
        | {
            "eos_token_id": 2,
            "scale_attn_by_inverse_layer_idx": True,
            "activation_function": "relu",
        },
    ),
    "gpt_neox": (
        "GPTNeoXConfig",
        {k: v for k, v in _CAUSAL.items() if k != "num_key_value_heads"}
        | {
            "hidden_size": 48,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}
            | {"partial_rotary_factor": 0.5},
        },
    ),
    "gpt_neox-serial": (
        "GPTNeoXConfig",
        {k: v for k, v in _CAUSAL.items() if k != "num_key_value_heads"}
        | {"use_parallel_residual": False, "attention_bias": False},
    ),
    "llama": ("LlamaConfig", _CAUSAL),
    "llama-biases": (
        "LlamaConfig",
        _CAUSAL
        | {"attention_bias": True, "mlp_bias": True, "head_dim": 8}
        | {"tie_word_embeddings": True},
    ),
    "llama-linear": (
        "LlamaConfig",
        _CAUSAL | {"rope_parameters": {"rope_type": "linear", "factor": 3.0, "rope_theta": 50.0}},
    ),
    "llama-llama3": ("LlamaConfig", _CAUSAL | {"rope_parameters": _LLAMA3, "head_dim": 16}),
    "llama-yarn": ("LlamaConfig", _CAUSAL | {"rope_parameters": _YARN, "head_dim": 16}),
    "mistral": ("MistralConfig", _CAUSAL | {"sliding_window": 4}),
    "mistral-full": ("MistralConfig", _CAUSAL | {"sliding_window": None, "head_dim": 8}),
    "qwen2": ("Qwen2Config", _CAUSAL),
    "qwen2-windows": (
        "Qwen2Config",
        _CAUSAL | {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    ),
    "qwen3": ("Qwen3Config", _CAUSAL | {"head_dim": 8}),
    "gemma2": ("Gemma2Config", _CAUSAL | _GEMMA),
    "gemma3_text": ("Gemma3TextConfig", _CAUSAL | _GEMMA | {"num_hidden_layers": 7}),
}
SEQ2SEQ = tuple(
    name
    for name in CASES
    if name.split("-")[0] in ("marian", "bart", "mbart", "m2m_100", "t5", "mt5")
)
CAUSAL = tuple(name for name in CASES if name not in SEQ2SEQ)


def configuration(case, **changes):
    """The configuration of a case."""
    kind, entries = CASES[case]
    return getattr(transformers, kind)(**({"vocab_size": VOCABULARY} | entries | changes))


@cache
def theirs(case):
    """A random model of Transformers, whose weights are all of a size that matters."""
    return randomized(configuration(case))


def randomized(config):
    """A model whose norms, biases and tables are random too."""
    head = "Seq2SeqLM" if config.is_encoder_decoder else "CausalLM"
    with torch.random.fork_rng():  # the same numbers whatever tests ran before
        torch.manual_seed(0)
        cls = getattr(transformers, f"AutoModelFor{head}")
        model = cls.from_config(config, attn_implementation="eager").eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in [*model.named_parameters(), *model.named_buffers()]:
            if "embed_positions" in name and config.model_type == "marian":
                continue
            if name in dict(model.named_buffers()) and "final_logits_bias" not in name:
                continue
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise, alpha=0.1 if parameter.ndim == 1 else 0.2)
    return model


@cache
def saved(case):
    """The directory of `theirs`; not to be changed."""
    path = Path(ROOT.name) / case
    theirs(case).save_pretrained(path)
    return path


def stacks(path):
    """(shapes, weights of the encoder or None, weights of the decoder) as treadle maps them."""
    entries = read_json("test", path, "config.json")
    family = FAMILIES[entries["model_type"]]
    shapes = read_shapes("test", family, entries)
    with Checkpoint("test", path) as checkpoint:
        found = open_weights(checkpoint, family, shapes, "float32")
        return shapes, *(None if w is None else dict(w) for w in found)


def logits(path, ids, decoder_ids=None, dtype=np.float64):
    """The logits [S, V] of one sequence by the NumPy definition."""
    shapes, encoder, decoder = stacks(path)
    memory = None
    if encoder is not None:
        memory = reference.stack(shapes.encoder.specs, encoder, ids, dtype=dtype).hidden
        ids = decoder_ids
    result = reference.stack(shapes.decoder.specs, decoder, ids, memory, dtype=dtype)
    return reference.logits(decoder, result.hidden, dtype=dtype)


def between_layers(path, ids, decoder_ids=None):
    """The hidden states and probabilities of one sequence by name, by the NumPy definition."""
    shapes, encoder, decoder = stacks(path)
    if encoder is None:
        result = reference.stack(shapes.decoder.specs, decoder, ids)
        states = [*result.states[:-1], result.hidden]
        return {"hidden_states": states, "attentions": result.attentions}
    read = reference.stack(shapes.encoder.specs, encoder, ids)
    result = reference.stack(shapes.decoder.specs, decoder, decoder_ids, read.hidden)
    return {
        "encoder_hidden_states": [*read.states[:-1], read.hidden],
        "decoder_hidden_states": [*result.states[:-1], result.hidden],
        "encoder_attentions": read.attentions,
        "decoder_attentions": result.attentions,
        "cross_attentions": result.cross,
    }


def encoded(path, ids):
    """The output [S, H] of the encoder for one sequence by the NumPy definition."""
    shapes, encoder, _ = stacks(path)
    return reference.stack(shapes.encoder.specs, encoder, ids).hidden


def ids(length, seed=0, vocabulary=77):
    """Token ids that are not special."""
    return np.random.default_rng(seed).integers(3, vocabulary, length)

"""This module builds a tiny model of every architecture of Transformers that can be built so.

A configuration's own defaults are made small by the names of their entries.
"""

import inspect
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

ROWS, TOKENS = 3, 9
_SIZES = {
    32: "hidden_size d_model n_embd dim embed_dim emb_dim embedding_size hidden_dim embed_dims "
    "encoder_hidden_size decoder_hidden_size out_hidden_size",
    2: "num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers "
    "num_encoder_layers num_decoder_layers depth encoder_num_hidden_layers "
    "decoder_num_hidden_layers type_vocab_size num_labels num_experts_per_tok top_k",
    1: "num_hidden_groups n_shared_experts first_k_dense_replace",
    4: "num_attention_heads n_head n_heads num_heads encoder_attention_heads num_experts "
    "decoder_attention_heads encoder_num_attention_heads decoder_num_attention_heads "
    "num_local_experts n_routed_experts num_key_value_heads",
    48: "intermediate_size encoder_ffn_dim decoder_ffn_dim d_ff ffn_dim n_inner d_inner "
    "ffn_hidden_size",
    60: "vocab_size",
    64: "max_position_embeddings n_positions max_target_positions max_source_positions",
    8: "head_dim d_kv attention_head_size kv_channels d_head patch_size qk_rope_head_dim "
    "qk_nope_head_dim v_head_dim index_head_dim",
    16: "image_size moe_intermediate_size shared_expert_intermediate_size projection_dim "
    "kv_lora_rank q_lora_rank num_mel_bins feature_size input_feat_per_channel",
    5: "sliding_window",
}
_SMALL = {name: size for size, names in _SIZES.items() for name in names.split()}
# Some configurations refuse one of these, or models do not fit them.
_LESS = (
    (),
    ("layer_types", "mlp_layer_types"),
    ("num_key_value_heads",),
    ("head_dim", "d_kv", "attention_head_size", "d_head"),
    ("embedding_size", "embed_dim"),
    ("hidden_dim",),
)
# Some configurations need what their defaults leave open or set for large models.
_MORE = {
    "deepseek_v2": {"n_group": 1, "topk_group": 1, "num_experts_per_tok": 2},
    "deepseek_v3": {"n_group": 1, "topk_group": 1},
    "esm": {"vocab_size": 60, "pad_token_id": 1, "mask_token_id": 2},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "nemotron": {"head_dim": 8, "num_key_value_heads": 4},
    "swin": {"embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 2}
    | {"patch_size": 2},
}
_RANDOM = ("drop_path", "pdrop", "layerdrop", "dropout", "_drop")


def model_types():
    """Return all names of architectures that have a model."""
    return sorted(MODEL_MAPPING_NAMES)


def small_configurations(kind):
    """Yield tiny configurations of an architecture, without dropout, the likeliest first."""
    base = type(transformers.AutoConfig.for_model(kind))
    for without in _LESS:
        try:
            yield base(**_entries(base, without) | _MORE.get(kind, {}))
        except Exception:  # noqa: BLE001, S112 - whatever the class has against these sizes
            continue


def _entries(base, without, depth=0):
    default = base()
    entries = default.to_dict()
    small = {
        name: new for name, value in entries.items() if (new := _small(name, value)) is not None
    }
    for name, value in entries.items():
        if name in ("layer_types", "mlp_layer_types") and isinstance(value, list):
            kinds = list(dict.fromkeys(value))
            small[name] = (kinds + kinds)[: max(2, len(kinds))]
    if "layer_types" in small:
        layers = len(small["layer_types"])
        small |= {n: layers for n in ("num_hidden_layers", "n_layer", "num_layers") if n in small}
        if "mlp_layer_types" in small:
            small["mlp_layer_types"] = (small["mlp_layer_types"] * layers)[:layers]
    if "qk_rope_head_dim" in entries:
        small.pop("head_dim", None)
    elif "num_key_value_heads" in small and "num_attention_heads" in small:
        small["num_key_value_heads"] = 2
    for name in getattr(base, "sub_configs", {}):
        if isinstance(entries.get(name), dict) and depth < 2:
            part = type(getattr(default, name))
            small[name] = part(**_entries(part, without, depth + 1)).to_dict()
    return {name: value for name, value in small.items() if name not in without}


def _small(name, value):
    """Return a small value for an entry that has one."""
    if isinstance(value, bool):
        return None
    number = isinstance(value, int | float)
    if number and any(part in name for part in _RANDOM):
        return type(value)(0)
    if number and name.startswith("mask_") and name.endswith("_prob"):
        return type(value)(0)
    if name in _SMALL and isinstance(value, int):
        return _SMALL[name]
    if name.endswith("_token_id") and isinstance(value, int) and value >= _SMALL["vocab_size"]:
        return {"pad": 1, "bos": 2, "eos": 3}.get(name[:3], 59)
    if name == "rope_parameters" and isinstance(value, dict) and "mrope_section" in value:
        return {**value, "mrope_section": [1, 1, 2]}
    return None


def tiny_model(configuration, name):
    """Return the model of a configuration with large random weights, so that scores differ."""
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(configuration, attn_implementation=name).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1 and parameter.is_floating_point():
                parameter.normal_(0, 1.4 / parameter[0].numel() ** 0.5)
    return model


def small_inputs(model):
    """Return inputs that a model may take: token ids, pixels, or sound."""
    names = inspect.signature(model.forward).parameters
    generator = torch.Generator().manual_seed(1)

    def numbers(*shape):
        return torch.randn(shape, generator=generator)

    def ids(length):
        return torch.randint(4, 40, (ROWS, length), generator=generator)

    found = []
    later = {"decoder_input_ids": ids(TOKENS - 2)} if "decoder_input_ids" in names else {}
    if "input_ids" in names:
        found.append({"input_ids": ids(TOKENS), **later})
    if "pixel_values" in names:
        found.append({"pixel_values": numbers(ROWS, 3, 16, 16)})
        found += [given | found[-1] for given in found[:-1]]
    if "input_values" in names:
        found.append({"input_values": numbers(ROWS, 2000), **later})
    if "input_features" in names:
        for shape in ((16, 64), (16, 128), (64, 16)):
            found.append({"input_features": numbers(ROWS, *shape), **later})
    if "inputs_embeds" in names:
        found.append({"inputs_embeds": numbers(ROWS, TOKENS, 32)})
    return found

"""Every entry of a settings file has its effect here or is refused by its name.

A table says of each entry that sentence-transformers writes (versions 5 and 6, and what files of
older versions have) which values are taken. `ANY` stands for an entry that is read by the code
which uses it, or that changes nothing at inference, such as the probability of a dropout. Entries
that no table has are refused, since a file of a later version may mean something by them. Only in
config.json are they kept without effect, as Transformers does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from treadle._inputs.checks import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

ANY = ...
Table = dict[str, Any]
"""Names of entries, each with `ANY` or a tuple of the values that are taken."""

# config.json: what would make another model of the same tensors. Whatever else Transformers writes
# is read by config.py or has no effect on an encoder at inference.
CONFIG: Table = {
    "is_decoder": (False, None),
    "add_cross_attention": (False, None),
    "is_encoder_decoder": (False, None),
    "tie_encoder_decoder": (False, None),
    "cross_attention_hidden_size": (None,),
    "position_embedding_type": ("absolute", None),
    "pruned_heads": ({}, None),
    "torchscript": (False, None),
    "per_layer_config": ({}, None),
    "quantization_config": (None,),
    "auto_map": ({}, None),
}

# config.json of a model that generates.
GENERATING_CONFIG: Table = {
    "tie_encoder_decoder": (False, None),
    "pruned_heads": ({}, None),
    "torchscript": (False, None),
    "per_layer_config": ({}, None),
    "quantization_config": (None,),
    "auto_map": ({}, None),
}

MODULE: Table = {"idx": ANY, "name": ANY, "path": ANY, "type": ANY, "kwargs": ([], None)}

POOLING: Table = {
    "embedding_dimension": ANY,
    "word_embedding_dimension": ANY,
    "pooling_mode": ANY,
    "pooling_mode_cls_token": ANY,
    "pooling_mode_max_tokens": ANY,
    "pooling_mode_mean_tokens": ANY,
    "pooling_mode_mean_sqrt_len_tokens": ANY,
    "pooling_mode_weightedmean_tokens": ANY,
    "pooling_mode_lasttoken": ANY,
    "include_prompt": ANY,
}

DENSE: Table = {
    "in_features": ANY,
    "out_features": ANY,
    "bias": ANY,
    "activation_function": ANY,
    "module_input_name": ("sentence_embedding",),
    "module_output_name": ("sentence_embedding", None),
    "use_residual": (False,),
}

NORMALIZE: Table = {
    "module_input_name": ("sentence_embedding",),
    "module_output_name": ("sentence_embedding", None),
}

DROPOUT: Table = {"dropout": ANY}

LAYER_NORM: Table = {"dimension": ANY}

# sentence_bert_config.json; the names in pairs are those of version 5 and of version 6.
ENCODER: Table = {
    "max_seq_length": ANY,
    "do_lower_case": ANY,
    "query_length": ANY,
    "document_length": ANY,
    "query_expansion": (None,),
    "model_args": ANY,
    "model_kwargs": ANY,
    "tokenizer_args": ANY,
    "processor_kwargs": ANY,
    "config_args": ANY,
    "config_kwargs": ANY,
    "processing_kwargs": ANY,
    "tokenizer_name_or_path": (None,),
    "transformer_task": ("feature-extraction",),
    "modality_config": (
        {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
    ),
    "module_output_name": ("token_embeddings",),
    # They choose how sentence-transformers computes and where it keeps what it downloads.
    "unpad_inputs": ANY,
    "backend": ANY,
    "cache_dir": ANY,
}

CLASSIFIER: Table = ENCODER | {
    "transformer_task": ("sequence-classification",),
    "modality_config": ({"text": {"method": "forward", "method_output_name": "logits"}},),
    "module_output_name": ("scores",),
}

# config_sentence_transformers.json. The versions of packages concern packages that are not used.
_MODEL: Table = {
    "__version__": ANY,
    "requirements": ANY,
    "prompts": ANY,
    "default_prompt_name": ANY,
}
SENTENCE_MODEL: Table = _MODEL | {
    "model_type": ("SentenceTransformer", None),
    "similarity_fn_name": ANY,
    "truncate_dim": ANY,
}
CROSS_MODEL: Table = _MODEL | {
    "model_type": ("CrossEncoder",),
    "activation_fn": ANY,
    # The head always computes in float32.
    "keep_in_fp32_modules": ANY,
}

# Options of Transformers' loading functions that concern downloads and change nothing else.
DOWNLOADS: Table = {
    "cache_dir": ANY,
    "force_download": ANY,
    "local_files_only": ANY,
    "revision": ANY,
    "token": ANY,
    "use_auth_token": ANY,
    # No code of a directory is ever run; sentence-transformers passes over this entry of a file.
    "trust_remote_code": ANY,
}
# Options of AutoModel.from_pretrained, in a file or in model_kwargs.
MODEL_OPTIONS: Table = DOWNLOADS | {
    "torch_dtype": ANY,
    "dtype": ANY,
    # All of these compute the same function.
    "attn_implementation": ("eager", "sdpa", None),
    "device_map": ("cpu", "auto", None),
    "low_cpu_mem_usage": ANY,
    "use_safetensors": (True, None),
    # The pooler has no part in the vectors of sentences.
    "add_pooling_layer": ANY,
}
# Options of a tokenizer's call, in processing_kwargs. Padding never changes a result.
_TEXT: Table = {
    "max_length": ANY,
    "truncation": (True, "longest_first", "only_first"),
    "padding": ANY,
    "pad_to_multiple_of": ANY,
    "add_special_tokens": (True,),
}
_COMMON: Table = {"return_tensors": ("pt", "np", None)}
PROCESSING: Table = {
    "text": ANY,
    "common": ANY,
    "audio": ({},),
    "image": ({},),
    "video": ({},),
    "chat_template": ({},),
}


def check_entries(where: str, entries: Mapping[str, Any], table: Table) -> None:
    """Raise ValueError for an entry that the table does not have, or for a value it does not."""
    for name, value in entries.items():
        if name not in table:
            raise ValueError(
                f"{where}: {name} is {shown(value)}, which treadle does not know: expected entries "
                f"among {', '.join(table)}"
            )
    check_values(where, entries, table)


def check_values(where: str, entries: Mapping[str, Any], table: Table) -> None:
    """Raise ValueError for a value that the table does not have; other entries may be there."""
    for name, allowed in table.items():
        if allowed is ANY or name not in entries:
            continue
        value = entries[name]
        # A 0 is not taken for False.
        if not any(type(value) is type(taken) and value == taken for taken in allowed):
            expected = " or ".join(map(repr, allowed))
            raise ValueError(f"{where}: {name} is {shown(value)}, expected {expected}")


def options(where: str, name: str, value: object, table: Table | None) -> dict[str, Any]:
    """Check options that are given as one object, and return them; None stands for none.

    Without a table their names are checked by the code that uses them.
    """
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"{where}: {name} is {shown(value)}, expected names with values")
    if table is not None:
        check_entries(f"{where}: {name}", value, table)
    return dict(value)


def processing_length(where: str, value: object) -> object:
    """Check processing_kwargs and return its max_length for texts, None where there is none."""
    given = options(where, "processing_kwargs", value, PROCESSING)
    options(f"{where}: processing_kwargs", "common", given.get("common"), _COMMON)
    return options(f"{where}: processing_kwargs", "text", given.get("text"), _TEXT).get(
        "max_length"
    )

"""This module reads config.json and checks all of it before any tensor is read."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from treadle._inputs.checks import MAX_LAYERS, integer
from treadle.layers.attention import check_heads
from treadle.transformers.directory import exists, read_flag, read_json, wrong
from treadle.transformers.families import ACTIVATIONS, FAMILIES, Family
from treadle.transformers.settings import CONFIG, check_values

if TYPE_CHECKING:
    from collections.abc import Mapping

# A model has at most so many labels; each has a name in config.json anyway.
_MAX_LABELS = 2**20


class Config:
    """The entries of a model's config.json as attributes; they cannot be changed.

    The sizes have the same names for all families (``hidden_size``, also where a DistilBERT's file
    says ``dim``) and Transformers' defaults where the file leaves them out. ``embedding_size`` is
    the hidden size but in ELECTRA, ``task_type_vocab_size`` is 0 but in ERNIE. ``id2label`` has
    integers for keys, ``num_labels`` is their number.
    """

    model_type: str
    vocab_size: int
    embedding_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    hidden_act: str
    max_position_embeddings: int
    type_vocab_size: int
    task_type_vocab_size: int
    layer_norm_eps: float
    pad_token_id: int | None
    tie_word_embeddings: bool
    output_hidden_states: bool
    output_attentions: bool
    return_dict: bool
    id2label: dict[int, str]
    label2id: dict[str, int]
    num_labels: int

    def __init__(self, entries: dict[str, Any]) -> None:
        # A file may name its entries as it likes, but not hide the methods.
        self.__dict__.update({k: v for k, v in entries.items() if not hasattr(Config, k)})

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(
            f"treadle.transformers: config.{name} cannot be set: it is as in the file"
        )

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"treadle.transformers: config.{name} cannot be deleted")

    def to_dict(self) -> dict[str, Any]:
        """Return all entries, as a new dict."""
        return dict(self.__dict__)

    def __repr__(self) -> str:
        return f"Config({', '.join(f'{k}={v!r}' for k, v in self.__dict__.items())})"


def read_config(
    function: str, directory: str, overrides: Mapping[str, Any] | None = None
) -> Config:
    """Read and check config.json, of which ``overrides`` replace or add entries.

    Raises FileNotFoundError, ValueError, TypeError.
    """
    entries = read_json(function, directory, "config.json") | _overriding(overrides or {})
    where = f"{function}: {directory}/config.json"
    refuse_adapter(function, directory)
    kind = entries.get("model_type")
    family = FAMILIES.get(kind) if isinstance(kind, str) else None
    if family is None:
        raise wrong(where, "model_type", kind, f"one of {', '.join(FAMILIES)}")
    try:
        return Config(entries | _checked(where, family, entries) | read_labels(where, entries))
    except TypeError as error:  # every fault of a file is a ValueError, also a wrong type
        raise ValueError(str(error)) from None


def refuse_adapter(function: str, directory: str) -> None:
    """Raise ValueError for a directory that has an adapter of PEFT beside the model."""
    if exists(directory, "adapter_config.json"):
        raise ValueError(
            f"{function}: {directory}/adapter_config.json is there, and treadle does not add "
            "adapters of PEFT: expected a merged model (merge_and_unload, save_pretrained)"
        )


def _checked(where: str, family: Family, entries: dict[str, Any]) -> dict[str, Any]:
    def get(name: str) -> Any:
        own = family.aliases.get(name, name)
        return entries.get(own, entries.get(name, family.defaults[name]))

    def size(name: str, most: int | None = None) -> int:
        limits = {} if most is None else {"most": most}
        return integer(where, family.aliases.get(name, name), get(name), **limits)

    checked: dict[str, Any] = {
        name: size(name)
        for name in ("vocab_size", "hidden_size", "num_attention_heads", "intermediate_size")
    }
    checked["num_hidden_layers"] = size("num_hidden_layers", MAX_LAYERS)
    checked["max_position_embeddings"] = size("max_position_embeddings")
    checked["type_vocab_size"] = size("type_vocab_size") if family.token_types else 0
    checked["embedding_size"] = size("embedding_size" if family.projection else "hidden_size")
    with_tasks = family.task_types and read_flag(where, entries, "use_task_id", default=False)
    checked["task_type_vocab_size"] = size("task_type_vocab_size") if with_tasks else 0
    check_heads(where, "hidden_size", checked["hidden_size"], checked["num_attention_heads"])
    checked["hidden_act"] = get("hidden_act")
    if not (isinstance(checked["hidden_act"], str) and checked["hidden_act"] in ACTIVATIONS):
        raise wrong(where, "hidden_act", checked["hidden_act"], f"one of {', '.join(ACTIVATIONS)}")
    checked["layer_norm_eps"] = _eps(where, get("layer_norm_eps")) if family.token_types else 1e-12
    checked["pad_token_id"] = _padding(where, family, get("pad_token_id"), checked)
    checked["tie_word_embeddings"] = read_flag(where, entries, "tie_word_embeddings", default=True)
    for name, default in (
        ("output_hidden_states", False),
        ("output_attentions", False),
        ("return_dict", True),
    ):
        given = {k: v for k, v in entries.items() if v is not None}  # None stands for the default
        checked[name] = read_flag(where, given, name, default=default)
    check_values(where, entries, CONFIG)
    return checked


def _eps(where: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong(where, "layer_norm_eps", value, "a number")
    if not (0 <= value < 1 and math.isfinite(value)):
        raise wrong(where, "layer_norm_eps", value, "a number in 0..1")
    return float(value)


def _padding(where: str, family: Family, value: object, sizes: dict[str, Any]) -> int | None:
    if value is None and not family.after_padding:
        return None
    most = sizes["vocab_size"] - 1
    if family.after_padding:  # at least one token must have a position
        most = min(most, sizes["max_position_embeddings"] - 2)
    return integer(where, "pad_token_id", value, 0, most)


def _overriding(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return overrides where another number of labels also replaces their names."""
    if "num_labels" in overrides and "id2label" not in overrides:
        return {**overrides, "id2label": None, "label2id": None}
    return dict(overrides)


def read_labels(where: str, entries: dict[str, Any]) -> dict[str, Any]:
    """Complete id2label, label2id and num_labels from those in the file, as Transformers does."""
    given = entries.get("id2label")
    if given is None:
        count = integer(where, "num_labels", entries.get("num_labels", 2), 0, _MAX_LABELS)
        names = {i: f"LABEL_{i}" for i in range(count)}
    elif isinstance(given, dict) and len(given) <= _MAX_LABELS:
        names = {_label_id(where, key): name for key, name in given.items()}
        if set(names) != set(range(len(given))):
            raise wrong(where, "the list of keys of id2label", [*given], "0, 1, ...")
        names = dict(sorted(names.items()))
    else:
        raise wrong(where, "id2label", given, "numbers with names")
    for name in names.values():
        if not isinstance(name, str):
            raise wrong(where, "a name in id2label", name, "a text")
    ids = {name: i for i, name in names.items()}
    return {
        "id2label": names,
        "label2id": _ids(where, entries.get("label2id"), ids),
        "num_labels": len(names),
    }


def label_count(function: str, config: Config) -> int:
    """Return the number of labels, for which a head needs one or more."""
    if config.num_labels < 1:
        raise ValueError(
            f"{function}: config.json has {config.num_labels} labels, expected 1 or more"
        )
    return config.num_labels


def _ids(where: str, given: object, ids: dict[str, int]) -> dict[str, int]:
    """Return the file's label2id where it has one, which need not agree with id2label."""
    if given is None:
        return ids
    if not isinstance(given, dict) or any(
        isinstance(i, bool) or not isinstance(i, int) or not 0 <= i < _MAX_LABELS
        for i in given.values()
    ):
        raise wrong(where, "label2id", given, "names with numbers")
    return given


def _label_id(where: str, key: str) -> int:
    if not (key.isascii() and key.isdigit() and len(key) < 10):
        raise wrong(where, "a key in id2label", key, "a number")
    return int(key)

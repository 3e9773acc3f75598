"""Cases of transformers: modules, checkpoints, and the network of the demonstration."""

import json
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import treadle.transformers
from support.bits.numbers import Case, Numbers
from support.bits.recurrent import DTYPES
from treadle.demo.reader import Reader

_HIDDEN, _INNER, _WORDS, _POSITIONS = 36, 50, 60, 24


def cases() -> Iterator[Case]:
    yield from _modules()
    yield from _checkpoints()
    yield from _demo()


def _loaded(numbers: Numbers, module: Any) -> Any:
    module.load_state_dict(numbers.state_dict(module))
    return module


def _attention(name: str, call: dict[str, Any], **options: Any) -> Any:
    """MultiheadAttention over keys that are not its queries, with masks by their kind."""
    numbers, (B, S, K, N) = Numbers(name), (3, 7, 9, 4)
    module = _loaded(numbers, treadle.MultiheadAttention(_HIDDEN, N, batch_first=True, **options))
    query = numbers.floats(B, S, _HIDDEN)
    key = numbers.floats(B, K, options.get("kdim", _HIDDEN))
    value = numbers.floats(B, K, options.get("vdim", _HIDDEN))
    call = dict(call)
    if "key_padding_mask" in call:
        call["key_padding_mask"] = np.arange(K) >= numbers.integers(1, K + 1, B)[:, None]
    if "attn_mask" in call:
        boolean = call["attn_mask"] == "bool"
        call["attn_mask"] = (
            numbers.flags(S, K, share=1 / 4) if boolean else numbers.floats(B * N, S, K)
        )
    return module(query, key, value, **call)


def _encoder(name: str, call: dict[str, Any], layers: int, **options: Any) -> Any:
    """A TransformerEncoderLayer, or a TransformerEncoder with a norm behind it."""
    numbers, shape = Numbers(name), options.pop("shape", (3, 9, _HIDDEN, 4, _INNER))
    B, S, H, N, F = shape
    module = treadle.TransformerEncoderLayer(H, N, F, batch_first=True, seed=0, **options)
    if layers > 1:
        module = treadle.TransformerEncoder(module, layers, norm=treadle.LayerNorm(H))
    _loaded(numbers, module)
    call = dict(call)
    if "src_key_padding_mask" in call:
        call["src_key_padding_mask"] = numbers.flags(B, S, share=1 / 3)
    if "mask" in call:
        del call["mask"]
        call["mask" if layers > 1 else "src_mask"] = numbers.floats(S, S)
    return module(numbers.floats(B, S, H), **call)


def _modules() -> Iterator[Case]:
    without = {"need_weights": False}
    for dtype in DTYPES:
        own = {"dtype": dtype}
        variants: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
            "plain": ({}, own),
            "heads": ({"average_attn_weights": False}, own),
            "causal": ({"is_causal": True, **without}, own),
            "padding": ({"key_padding_mask": None, **without}, own),
            "mask": ({"attn_mask": "bool"}, own),
            "bias": ({"attn_mask": "float", "key_padding_mask": None}, own),
            "appended": ({"is_causal": True}, {"add_bias_kv": True, "add_zero_attn": True} | own),
            "sizes": ({}, {"kdim": 20, "vdim": 28, "bias": False} | own),
        }
        for label, (call, options) in variants.items():
            name = f"mha/{dtype}/{label}"
            yield Case(name, partial(_attention, name, call, **options))
        kinds: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
            "plain": ({}, own),
            "padding": ({"src_key_padding_mask": None}, own),
            "causal": ({"is_causal": True}, {"activation": "gelu"} | own),
            "mask": ({"mask": None, "src_key_padding_mask": None}, own),
            "norm_first": ({}, {"norm_first": True, "activation": "silu"} | own),
            "no_bias": ({"src_key_padding_mask": None}, {"bias": False} | own),
            "wide": ({"src_key_padding_mask": None}, {"shape": (6, 64, 384, 12, 768)} | own),
        }
        for label, (call, options) in kinds.items():
            for layers in (1, 2):
                name = f"encoder/{dtype}/{label}/{layers}"
                yield Case(name, partial(_encoder, name, call, layers, **options))


def _tensors(numbers: Numbers, family: str) -> dict[str, Any]:
    """The weights of a checkpoint under the names of Transformers, with a classifier."""
    H, F = _HIDDEN, _INNER
    if family != "distilbert":
        layer = {
            **{f"attention.self.{k}": (H, H) for k in ("query", "key", "value")},
            "attention.output.dense": (H, H),
            "attention.output.LayerNorm": (H,),
            "intermediate.dense": (F, H),
            "output.dense": (H, F),
            "output.LayerNorm": (H,),
        }
        head = {"bert.pooler.dense": (H, H), "classifier": (3, H)}
        if family == "roberta":
            head = {"classifier.dense": (H, H), "classifier.out_proj": (3, H)}
        layers, types = "encoder.layer", {"token_type": 2 if family == "bert" else 1}
    else:
        layer = {
            **{f"attention.{k}_lin": (H, H) for k in ("q", "k", "v", "out")},
            "sa_layer_norm": (H,),
            "ffn.lin1": (F, H),
            "ffn.lin2": (H, F),
            "output_layer_norm": (H,),
        }
        head = {"pre_classifier": (H, H), "classifier": (3, H)}
        layers, types = "transformer.layer", {}
    tables = {"word": _WORDS, "position": _POSITIONS} | types
    shapes = {f"{family}.embeddings.{k}_embeddings.weight": (n, H) for k, n in tables.items()}
    modules = {f"{family}.embeddings.LayerNorm": (H,)} | head
    for number in range(2):
        modules |= {f"{family}.{layers}.{number}.{k}": shape for k, shape in layer.items()}
    for name, shape in modules.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return {name: numbers.parameter(name, shape) for name, shape in shapes.items()}


def _configuration(family: str) -> dict[str, Any]:
    names = ("hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size")
    if family == "distilbert":
        names = ("dim", "n_heads", "n_layers", "hidden_dim")
    return {
        "model_type": family,
        "vocab_size": _WORDS,
        "max_position_embeddings": _POSITIONS,
        "type_vocab_size": 1 if family == "roberta" else 2,
        "num_labels": 3,
        **dict(zip(names, (_HIDDEN, 3, 2, _INNER), strict=True)),
    }


def _checkpoint(name: str, family: str, dtype: str) -> Any:
    """States, attention probabilities and classes of a directory that is written here."""
    from safetensors.numpy import save_file

    numbers = Numbers(name)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        save_file(_tensors(numbers, family), path / "model.safetensors", {"format": "pt"})
        (path / "config.json").write_text(json.dumps(_configuration(family)))
        model, classifier = (
            getattr(treadle.transformers, cls).from_pretrained(path, dtype=dtype)
            for cls in ("AutoModel", "AutoModelForSequenceClassification")
        )
    ids = numbers.integers(0, _WORDS, 3, 11)
    mask = (np.arange(11) < numbers.integers(1, 12, 3)[:, None]).astype(np.int64)
    output = model(ids, mask, output_hidden_states=True, output_attentions=True)
    return output.to_tuple(), classifier(ids, mask).to_tuple(), model(ids).to_tuple()


def _checkpoints() -> Iterator[Case]:
    for family in ("bert", "roberta", "distilbert"):
        for dtype in DTYPES:
            name = f"checkpoint/{family}/{dtype}"
            yield Case(name, partial(_checkpoint, name, family, dtype))


def _read(dtype: str, what: str) -> Any:
    reader = Reader(dtype)
    found = []
    for word in ("I love AI ", "où est la bibliothèque ", "ich liebe dich "):
        reader.read(word)
        found.append(reader.hidden.copy() if what == "states" else reader.probabilities())
    return found


def _demo() -> Iterator[Case]:
    """The trained network: its states, and the probabilities that NumPy's exp makes of them."""
    for dtype in DTYPES:
        yield Case(f"demo/{dtype}/states", partial(_read, dtype, "states"))
        of_languages = partial(_read, dtype, "probabilities")
        yield Case(f"demo/{dtype}/probabilities", of_languages, portable=False)

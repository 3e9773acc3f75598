"""From sentences to embeddings around a runtime that has no such thing: what its user would write.

As sentence-transformers does: sorted by length, batches of 32, each padded to its longest sentence,
the mean over the tokens, of length 1. Its own ONNX and OpenVINO back ends do the same around the
same runtimes, with PyTorch tensors in between; this is the leaner way, and so the harder peer.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...data import Array
from ...encoder import PROBE
from ...encoder.text import tokenizer
from .. import Prepared

BATCH = 32

# (ids [B, S] int64, lengths [B] int64) to the last hidden states [B, S, H].
Run = Callable[[Array, Array], Array]


def encode(run: Run, sentences: list[str]) -> Array:
    """Embeddings [B, H]."""
    order = sorted(range(len(sentences)), key=lambda index: -len(sentences[index]))
    found: list[Array] = []
    for start in range(0, len(order), BATCH):
        batch = [sentences[index] for index in order[start : start + BATCH]]
        encoded = [entry.ids for entry in tokenizer().encode_batch_fast(batch)]
        lengths = np.array([len(ids) for ids in encoded])
        ids = np.zeros((len(encoded), int(lengths.max())), np.int64)
        for row, values in enumerate(encoded):
            ids[row, : len(values)] = values
        mask = (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.float32)
        sums = np.matmul(mask[:, None], run(ids, lengths))[:, 0]
        found.append(sums / np.sqrt((sums * sums).sum(-1, keepdims=True)))
    embeddings = np.empty((len(order), found[0].shape[1]), np.float32)
    embeddings[order] = np.concatenate(found)
    return embeddings


def prepared(run: Run, sentences: list[str]) -> Prepared:
    """All sentences, and the probe."""
    return Prepared(
        lambda: encode(run, sentences),
        lambda result: result,
        probe=lambda: encode(run, sentences[:PROBE]),
    )

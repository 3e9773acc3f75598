"""This module goes from sentences to embeddings around a runtime, as a user of it would.

It does what sentence-transformers does: sentences are sorted by length, batches of 32 are padded to
their longest sentence, and the mean over the tokens gets the length 1. Its own ONNX and OpenVINO
back ends do the same around the same runtimes, with PyTorch tensors in between; this is the leaner
way, and so the harder peer.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ....core.dtypes import Array
from ....core.kind import Prepared
from ....core.models.minilm.text import tokenizer
from ..cases import PROBE

BATCH = 32

# The function makes the last hidden states [B, S, H] of ids [B, S] and lengths [B], both int64.
Run = Callable[[Array, Array], Array]


def encode(run: Run, sentences: list[str]) -> Array:
    """Return the embeddings [B, H]."""
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


def prepared(run: Run, sentences: list[str]) -> Prepared[Array]:
    """Return a call for all sentences, and the probe."""
    return Prepared(
        lambda: encode(run, sentences),
        lambda result: result,
        probe=lambda: encode(run, sentences[:PROBE]),
    )

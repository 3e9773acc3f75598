"""This module makes short sentences to encode, and counts their tokens.

They are the same on every machine with the same Python, and nothing is downloaded. The words are
those of Python's own language reference (`pydoc_data.topics`, which `help()` prints), cut into
pieces of 3 to 9 words; after the last word it starts again with other cuts.
"""

from __future__ import annotations

import hashlib
import random
import re
from functools import cache
from pydoc_data.topics import topics
from typing import Any

from .checkpoint import load

SHORTEST, LONGEST = 3, 9
MOST_TOKENS = 256  # as sentence_bert_config.json says; no piece is that long


@cache
def sentences(count: int) -> tuple[str, ...]:
    """Return the first `count` pieces."""
    text = " ".join(topics[name] for name in sorted(topics))
    words = [word for word in re.findall(r"\S+", text) if re.search(r"[A-Za-z]", word)]
    rng = random.Random(2)
    found: list[str] = []
    at = 0
    while len(found) < count:
        size = rng.randint(SHORTEST, LONGEST)
        piece = words[at : at + size]
        at += size
        if at >= len(words):
            at = rng.randrange(LONGEST)
        found.append(" ".join(piece))
    return tuple(found)


@cache
def tokenizer() -> Any:
    """Return the model's tokenizer without the padding to 128 that its file asks for."""
    from tokenizers import Tokenizer

    made = Tokenizer.from_file(str(load().path / "tokenizer.json"))
    made.no_padding()
    made.enable_truncation(MOST_TOKENS)
    return made


@cache
def token_lengths(count: int) -> tuple[int, ...]:
    """Return the tokens of each piece, [CLS] and [SEP] included."""
    return tuple(len(e.ids) for e in tokenizer().encode_batch(list(sentences(count))))


def about(count: int) -> dict[str, Any]:
    """Return what the text was, for the JSON."""
    lengths = sorted(token_lengths(count))
    joined = "\n".join(sentences(count)).encode()
    return {
        "sentences": count,
        "tokens": sum(lengths),
        "median_tokens": lengths[len(lengths) // 2],
        "longest": lengths[-1],
        "sha256": hashlib.sha256(joined).hexdigest(),
    }

"""Pronounce English words with a recurrent encoder and decoder that was trained by others.

    pip install .
    pip download --no-deps g2p-en==2.1.0
    python examples/pronounce.py g2p_en-2.1.0-py3-none-any.whl treadle "I love weaving"

The package g2p-en (Park and Kim, Apache License 2.0) carries the weights of a GRU that reads a word
letter by letter, and of one that writes its phonemes: sequence to sequence without attention, after
Sutskever et al. (arXiv:1409.3215) and Cho et al. (arXiv:1406.1078). Here `treadle.Seq2Seq` runs
them; the package itself is not imported. Its wheel may be unpacked: name checkpoint20.npz then.
"""

from __future__ import annotations

import argparse
import io
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import treadle

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LETTERS = ["<pad>", "<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz"]
_VOWELS = dict.fromkeys(
    ["AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH"], "012"
)
_PHONEMES = (
    "AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH "
    "UW UW0 UW1 UW2 V W Y Z ZH"
)
PHONEMES = ["<pad>", "<unk>", "<s>", "</s>"]
PHONEMES += [p + stress for p in _PHONEMES.split() for stress in _VOWELS.get(p, [""])]
START, END = PHONEMES.index("<s>"), PHONEMES.index("</s>")
MOST = 20  # phonemes of a word, as in the package

# The package's name of an array -> treadle's.
NAMES = {"enc_emb": "encoder.0.weight", "dec_emb": "decoder.0.weight"}
NAMES |= {"fc_w": "decoder.2.weight", "fc_b": "decoder.2.bias"}
NAMES |= {
    f"{short}_{theirs}": f"{part}.1.{ours}_l0"
    for short, part in (("enc", "encoder"), ("dec", "decoder"))
    for theirs, ours in {
        "w_ih": "weight_ih", "w_hh": "weight_hh", "b_ih": "bias_ih", "b_hh": "bias_hh",
    }.items()
}  # fmt: skip


def read(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of the package's file, or of the one in its wheel."""
    data = path.read_bytes()
    if path.suffix == ".whl":
        with zipfile.ZipFile(io.BytesIO(data)) as wheel:
            data = wheel.read("g2p_en/checkpoint20.npz")
    with np.load(io.BytesIO(data)) as file:
        return {name: file[name] for name in NAMES}


def build(arrays: Mapping[str, np.ndarray]) -> treadle.Seq2Seq:
    """Return the model: an embedding and a GRU on each side, and a linear layer."""
    hidden, size = arrays["enc_w_hh"].shape[1], arrays["enc_emb"].shape[1]
    encoder = treadle.Sequential(
        treadle.Embedding(len(LETTERS), size), treadle.GRU(size, hidden, batch_first=True)
    )
    decoder = treadle.Sequential(
        treadle.Embedding(len(PHONEMES), size),
        treadle.GRU(size, hidden, batch_first=True),
        treadle.Linear(hidden, len(PHONEMES)),
    )
    options = {"decoder_start_token_id": START, "eos_token_id": END, "pad_token_id": 0}
    model = treadle.Seq2Seq(encoder, decoder, generation={**options, "max_new_tokens": MOST})
    model.load_state_dict({ours: arrays[theirs] for theirs, ours in NAMES.items()})
    return model


def encoded(words: Sequence[str]) -> tuple[np.ndarray, list[int]]:
    """Return letters [B, S], each word with </s> behind it, and how many each word has."""
    lengths = [len(word) + 1 for word in words]
    x = np.zeros((len(words), max(lengths, default=1)), np.int64)
    for row, word in zip(x, words, strict=True):
        known = [LETTERS.index(c) if c in LETTERS else LETTERS.index("<unk>") for c in word]
        row[: len(word) + 1] = [*known, LETTERS.index("</s>")]
    return x, lengths


def pronounce(model: treadle.Seq2Seq, words: Sequence[str], **options: object) -> list[list[str]]:
    """Return the phonemes of each word."""
    x, lengths = encoded(words)
    found = model.generate(x, lengths=lengths, return_dict_in_generate=True, **options)
    return [
        [PHONEMES[token] for token in tokens[1:length] if token != END]
        for tokens, length in zip(found.sequences, found.lengths, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("weights", type=Path, help="the wheel of g2p-en, or its checkpoint20.npz")
    parser.add_argument("text", nargs="*", default=["I love weaving on a treadle loom"])
    options = parser.parse_args()
    words = re.findall(r"[a-z']+", " ".join(options.text).lower())
    model = build(read(options.weights))
    for word, phonemes in zip(words, pronounce(model, words), strict=True):
        print(f"{word:20}{' '.join(phonemes)}")


if __name__ == "__main__":
    main()

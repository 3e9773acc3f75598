"""The trained encoder and decoder of the package g2p-en: its pronunciations, by its formula."""

import sys
import zipfile

import numpy as np
import pytest

from reference import recurrent as reference
from support import model_files

WEIGHTS = model_files.found("checkpoint20.npz").get("checkpoint20.npz")
WORDS = [
    "treadle",
    "weaving",
    "loom",
    "shuttle",
    "warp",
    "weft",
    "activationist",
    "zyzzyva",
    "a",
    "i",
    "strengths",
    "rhythm",
    "queue",
    "photosynthesis",
    "floccinaucinihilipilification",
    "o'clock",
    "mississippi",
    "colonel",
    "xylophone",
    "knight",
]


@pytest.fixture(scope="module")
def pronounce(source):
    sys.path.insert(0, str(source / "examples"))
    try:
        import pronounce
    finally:
        del sys.path[0]
    return pronounce


@pytest.fixture(scope="module")
def arrays(pronounce):
    if WEIGHTS is None:
        pytest.skip("the package g2p-en is not here")
    return pronounce.read(WEIGHTS)


def by_formula(arrays, x, most, dtype=np.float64):
    """The best phonemes of one word's letters, and the least lead of a best one over the next."""
    p = {name: value.astype(dtype) for name, value in arrays.items()}
    cells = [
        [p[f"{part}_{name}"] for name in ("w_ih", "w_hh", "b_ih", "b_hh")]
        for part in ("enc", "dec")
    ]
    h = np.zeros((1, cells[0][1].shape[1]), dtype)
    for letter in x:
        h = reference.gru_cell(p["enc_emb"][[letter]], h, *cells[0], dtype=dtype)
    token, tokens, lead = 2, [], np.inf
    for _ in range(most):
        h = reference.gru_cell(p["dec_emb"][[token]], h, *cells[1], dtype=dtype)
        logits = (h @ p["fc_w"].T + p["fc_b"])[0]
        token = int(logits.argmax())
        lead = min(lead, logits[token] - np.sort(logits)[-2])
        if token == 3:
            break
        tokens.append(token)
    return tokens, lead


def test_every_pronunciation(pronounce, arrays, isa):
    """Exactly those of float64: no lead is so small that float32's rounding could decide."""
    model = pronounce.build(arrays)
    x, lengths = pronounce.encoded(WORDS)
    expected = [
        by_formula(arrays, row[:n], pronounce.MOST) for row, n in zip(x, lengths, strict=True)
    ]
    assert min(lead for _, lead in expected) > 1e-4
    names = [[pronounce.PHONEMES[token] for token in tokens] for tokens, _ in expected]
    assert pronounce.pronounce(model, WORDS) == names
    assert [pronounce.pronounce(model, [word])[0] for word in WORDS] == names
    assert " ".join(names[0]) == "T R EH1 D AH0 L"


def test_a_wheel_is_read_as_the_file(pronounce, arrays, tmp_path):
    wheel = tmp_path / "g2p_en.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.write(WEIGHTS, "g2p_en/checkpoint20.npz")
    for name, value in pronounce.read(wheel).items():
        assert np.array_equal(value, arrays[name])


def test_names_of_the_phonemes(pronounce):
    assert len(pronounce.PHONEMES) == 74
    assert pronounce.PHONEMES[4:7] == ["AA0", "AA1", "AA2"]
    assert pronounce.PHONEMES[-8:] == ["UW", "UW0", "UW1", "UW2", "V", "W", "Y", "Z", "ZH"][-8:]

"""The examples of sequence to sequence: what they draw and say, and that the programs run."""

import datetime
import subprocess
import sys

import numpy as np
import pytest


@pytest.fixture(scope="module")
def folder(source):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(source / "examples")
        yield source / "examples"


@pytest.mark.parametrize("name", ["translate_dates", "caption_shapes"])
def test_the_command(folder, name, tmp_path):
    """`--quick` trains a little, and prints the share that is exact, in treadle alone."""
    script = [sys.executable, folder / f"{name}.py", "--quick"]
    log = subprocess.run(script, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert "s of training" in log
    assert "% of 100 new" in log


def test_dates_in_words(folder):
    import translate_dates as example

    assert [example.nth(n) for n in (1, 2, 3, 5, 8, 9, 12, 20, 21, 30)] == [
        *("first", "second", "third", "fifth", "eighth", "ninth", "twelfth", "twentieth"),
        *("twenty first", "thirtieth"),
    ]
    assert [example.year(n) for n in (1979, 1900, 1905, 2000, 2007, 2025)] == [
        *("nineteen seventy nine", "nineteen hundred", "nineteen oh five", "two thousand"),
        *("two thousand and seven", "twenty twenty five"),
    ]
    texts, answers = example.dates(3, 200)
    others = set(example.dates(4, 200)[1])
    assert not others & set(answers)
    for text, answer in zip(texts, answers, strict=True):
        date = datetime.date.fromisoformat(answer)
        assert example.MONTHS[date.month - 1][:3] in text
        assert all(letter in example.LETTERS for letter in text)
    x, lengths = example.letters(texts)
    assert "".join(example.LETTERS[n] for n in x[0]) == texts[0]
    assert lengths[0] == len(texts[0])
    assert example.digits(["1979-05-03"]).tolist() == [[1, 4, 12, 10, 12, 13, 3, 8, 13, 3, 6, 2]]


def test_pictures_and_their_captions(folder):
    import caption_shapes as example

    pictures = example.draw(1, 60)
    assert pictures.images.shape == (60, 5, 24, 24)
    assert 0 < pictures.unseen.mean() < 0.5
    assert not example.draw(2, 60, training=True).unseen.any()
    for image, caption in zip(pictures.images, pictures.captions, strict=True):
        _, first, _, *relation, _, second, _ = caption.split()
        places = []
        for colour in (first, second):
            near = abs(image[:3] - np.array(example.COLOURS[colour])[:, None, None]).max(0) < 0.45
            places.append(np.argwhere(near).mean(0))
        if first != second and places[0].size and not np.isnan(places).any():
            axis = 1 if relation == ["left", "of"] else 0
            assert places[0][axis] < places[1][axis]
    rows = example.tokens(pictures.captions)
    assert rows.shape[1] == example.LENGTH
    assert all(example.END in row for row in rows)

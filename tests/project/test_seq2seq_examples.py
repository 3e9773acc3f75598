"""The examples of sequence to sequence: what they draw and say, and that the programs run."""

import datetime
import gettext
import struct
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


def compiled(order, messages):
    """A catalogue of messages (.mo) by GNU gettext's layout, in one order of bytes."""
    tables, strings, at = b"", b"", 28 + 16 * len(messages)
    for column in zip(*messages, strict=True):
        for text in column:
            tables += struct.pack(f"{order}2I", len(text), at + len(strings))
            strings += text + b"\0"
    count = len(messages)
    head = struct.pack(f"{order}7I", 0x950412DE, 0, count, 28, 28 + 8 * count, 0, 0)
    return head + tables + strings


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_catalogue(folder, order, tmp_path):
    """Its texts are those that Python's gettext reads; names and commands are no sentences."""
    import train_translate as example

    messages = [
        (b"", b"Content-Type: text/plain; charset=UTF-8\n"),
        (b"%d file\0%d files", b"%d arquivo\0%d arquivos"),
        (b"menu\x04Open", b"Abrir"),
        (b"no\n  changes found", "não há mudanças".encode()),
        (b"ok", b"ok"),
        (b"hg -r {0} --x=1", b"hg -r {0} --y=1"),
    ]
    path = tmp_path / "x.mo"
    path.write_bytes(compiled(order, messages))
    with path.open("rb") as file:
        reference = gettext.GNUTranslations(file)
    pairs = example.read(path)
    assert [a for a, _ in pairs] == [
        a.split(b"\0")[0].decode() for a, _ in (*messages[1:2], *messages[3:])
    ]
    assert pairs[0][1] == reference.ngettext("%d file", "%d files", 1)
    assert all(reference.gettext(a) == b for a, b in pairs[1:])
    learned, held = example.sentences(pairs, 40)
    assert sorted(learned + held) == [
        ("%d file", "%d arquivo"),
        ("no changes found", "não há mudanças"),
    ]
    assert example.sentences(pairs, 10)[0] + example.sentences(pairs, 10)[1] == [pairs[0]]
    path.write_bytes(b"PK")
    with pytest.raises(SystemExit, match=r"not a compiled catalogue"):
        example.read(path)


def test_near_copies_are_not_held_out(folder):
    import train_translate as example

    texts = [f"message number {word}" for word in map(chr, range(97, 123))]
    learned, held = example.sentences([(t, "x") for t in texts], 40)
    assert len(learned) + len(held) == 26
    assert held
    again = example.sentences([(f"{t.capitalize()}!", "x") for t in texts], 40)
    assert [[a.strip("!").lower() for a, _ in side] for side in again] == [
        [a for a, _ in side] for side in (learned, held)
    ]

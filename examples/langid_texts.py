"""This module makes up the texts that train_langid.py trains on, from Debian's word lists.

Word lists hold no sentences and no frequencies, so a text is made up word by word: with a
probability that differs from text to text the next word comes from a short hand-written list of
very common words (langid_words.txt), otherwise from the Debian list, shorter words more often.
French and Italian words that begin with a vowel are often elided (l'eau, dell'acqua).

Real texts are not clean. Now and then a word or a phrase of another language stands among the
others, of another alphabet too, or a run of letters that is no word (a name, a code, a part of an
address). Numbers, signs, emoji and letters of alphabets that the network does not know need no
training: a reader sees a blank in their place, and a run of blanks as one (`treadle.demo.reader`).

Texts are long. A row of a batch is a piece of an endless text that goes on in the next batch, with
the state of the network; at the end of a text either the state begins anew, or the next text in
another language follows at once, so that the network learns to leave any state that it is in.
"""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from treadle.demo.reader import encode

LANGUAGES = {  # code of langid_words.txt: name, file in /usr/share/dict, its encoding
    "en": ("English", "american-english", "utf-8"),
    "fr": ("French", "french", "utf-8"),
    "de": ("German", "ngerman", "utf-8"),
    "es": ("Spanish", "spanish", "utf-8"),
    "it": ("Italian", "italian", "utf-8"),
    "pt": ("Portuguese", "portuguese", "utf-8"),
    "nl": ("Dutch", "dutch", "utf-8"),
    "pl": ("Polish", "polish", "utf-8"),
    "sv": ("Swedish", "swedish", "latin-1"),
    "da": ("Danish", "danish", "utf-8"),
    "nb": ("Norwegian", "bokmaal", "latin-1"),
    "uk": ("Ukrainian", "ukrainian", "utf-8"),
}
LATIN = "abcdefghijklmnopqrstuvwxyzßàáâãäåæçèéêëìíîïñòóôõöøùúûüýąćęłńœśźż"
UKRAINIAN = "абвгґдеєжзиіїйклмнопрстуфхцчшщьюя"
ALPHABET = " '" + LATIN + UKRAINIAN  # the blank stands for every character that is not here
(BLANK,) = encode(" ", ALPHABET)

LENGTH, BATCH = 40, 96  # characters of a row, rows of a batch
COMMON = (0.0, 0.45, 0.9)  # shares of common words; a text has one of them
FOREIGN, CODE = 0.025, 0.015  # probabilities of a foreign phrase and of a code before a word
ELISION, GENITIVE, QUOTED = 0.4, 0.03, 0.01  # probabilities of what an apostrophe is used for
GIBBERISH = 0.02  # the share of texts that are no language and have a random label
LONG, CONTINUED = 0.12, 0.2  # shares of long texts, and of texts that another follows at once
SETTLED = 60  # characters after which a text that follows another at once counts in full
LIST_WORDS = 150_000  # taken evenly from each list

ELIDED = {  # what an elided word begins with, the most frequent more than once
    "fr": "l' l' l' d' d' j' n' s' qu' c' m' t' jusqu'",
    "it": "l' l' l' dell' dell' un' d' all' nell' sull' c' quest' dall'",
}
VOWELS = tuple("aeiouyhàâéèêëîïôùû")


def held_out(word: str) -> bool:
    """Tell whether a word is kept for measuring: one in twenty, the same in every language."""
    return zlib.crc32(word.encode()) % 20 == 0


def read_list(code: str, directory: Path) -> list[str]:
    """Read the words of a Debian list: 3 to 18 letters, no names, no English genitives."""
    _, name, encoding = LANGUAGES[code]
    text = (directory / name).read_text(encoding=encoding)
    if code == "de":  # German nouns are capitalised; elsewhere a capital means a name
        text = re.sub("^.", lambda first: first[0].lower(), text, flags=re.MULTILINE)
    letters = UKRAINIAN if code == "uk" else LATIN
    words = re.findall(f"^[{letters}']{{3,18}}$", text, re.MULTILINE)
    # In the order of the file, which is nearly this one, millions are sorted at once.
    ordered = sorted(word for word in dict.fromkeys(words) if not word.endswith("'s"))
    return ordered[:: -(-len(ordered) // LIST_WORDS)]


class Words:
    """This class draws words of one language, the shorter ones or the earlier ones more often."""

    def __init__(self, words: list[str], rng: np.random.Generator, ranked: bool = False) -> None:
        self.words = words
        self.codes = [encode(word, ALPHABET) for word in words]
        # Word lists are alphabetical; the hand-written ones are ranked: the law of Zipf-Mandelbrot.
        length = np.array([len(word) for word in words])
        weight = 1 / (30.0 + np.arange(len(words))) if ranked else np.exp2(-length / 3)
        self.cumulative = np.cumsum(weight) / weight.sum()
        self.rng = rng

    def draw(self, count: int) -> list[int]:
        """Draw the places of so many words."""
        places = np.searchsorted(self.cumulative, self.rng.random(count))
        return np.minimum(places, len(self.words) - 1).tolist()

    def text(self, count: int) -> str:
        """Draw so many words, with a space between each two."""
        return " ".join(self.words[i] for i in self.draw(count))


class Batch(NamedTuple):
    """One batch: characters, the language told after each, its weight, rows that begin anew."""

    characters: np.ndarray  # int64 [LENGTH, BATCH]
    languages: np.ndarray  # int64 [LENGTH, BATCH]
    weights: np.ndarray  # float32 [LENGTH, BATCH]
    anew: np.ndarray  # bool [BATCH]


class Row:
    """One endless text: of which language, how many characters of it are left, what is waiting."""

    def __init__(self) -> None:
        self.language = 0
        self.left = 0  # pieces of LENGTH characters
        self.age = SETTLED  # characters since a text followed another at once
        self.gibberish = False
        self.common = 0.0
        self.waiting: list[int] = []  # characters that did not fit into the last piece


class Texts:
    """This class makes batches of made-up texts."""

    def __init__(self, lists: list[Words], common: list[Words], seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.lists, self.common = lists, common
        self.elided = [
            [encode(prefix, ALPHABET) for prefix in ELIDED.get(code, "").split()]
            for code in LANGUAGES
        ]
        self.vowels = {encode(vowel, ALPHABET)[0] for vowel in VOWELS}
        self.apostrophe, self.s = encode("'s", ALPHABET)
        self.rows = [Row() for _ in range(BATCH)]

    def _begin(self, row: Row) -> bool:
        """Let a row begin its next text, and tell whether its state begins anew."""
        rng = self.rng
        anew = not row.waiting or rng.random() >= CONTINUED
        row.language = int(rng.integers(len(self.lists)))
        row.left = 1 + (int(rng.geometric(0.2)) if rng.random() < LONG else 0)
        row.age = SETTLED if anew else 0
        row.gibberish = rng.random() < GIBBERISH
        row.common = COMMON[rng.integers(len(COMMON))]
        row.waiting = [] if anew else [BLANK]
        return anew

    def _code(self) -> list[int]:
        """Draw a run of letters that is no word, of any alphabet or, more often, of Latin."""
        letters = 28 if self.rng.random() < 0.8 else len(ALPHABET)
        return self.rng.integers(1, letters, self.rng.integers(1, 9)).tolist()

    def _phrase(self) -> list[int]:
        """Draw one to three words of any language."""
        language = int(self.rng.integers(len(self.lists)))
        words = (self.common if self.rng.random() < 0.5 else self.lists)[language]
        return [
            code
            for place in words.draw(int(self.rng.integers(1, 4)))
            for code in (*words.codes[place], BLANK)
        ]

    def _words(self, row: Row) -> list[int]:
        """Draw as many words of a row's text as fill a piece, a blank after each."""
        rng, language = self.rng, row.language
        source, often, elided = self.lists[language], self.common[language], self.elided[language]
        count = LENGTH // 3
        is_common = (rng.random(count) < row.common).tolist()
        chance, other = rng.random((2, count)).tolist()
        codes: list[int] = []
        drawn = zip(source.draw(count), often.draw(count), strict=True)
        for i, (rare, frequent) in enumerate(drawn):
            if chance[i] < FOREIGN:
                codes += self._phrase()
            elif chance[i] < FOREIGN + CODE:
                codes += [*self._code(), BLANK]
            word = often.codes[frequent] if is_common[i] else source.codes[rare]
            if elided and other[i] < ELISION and word[0] in self.vowels:
                word = elided[int(rng.integers(len(elided)))] + word
            elif language == 0 and other[i] < GENITIVE:
                word = [*word, self.apostrophe, self.s]
            elif other[i] > 1 - QUOTED:
                word = [self.apostrophe, *word, self.apostrophe]
            codes += word
            codes.append(BLANK)
            if len(codes) >= LENGTH:
                break
        return codes

    def _piece(self, row: Row) -> list[int]:
        """Take the next LENGTH characters of a row."""
        while len(row.waiting) < LENGTH:
            row.waiting += [*self._code(), BLANK] if row.gibberish else self._words(row)
        piece, row.waiting = row.waiting[:LENGTH], row.waiting[LENGTH:]
        return piece

    def batch(self) -> Batch:
        """Take the next batch; the end of a word weighs more, since there the demo asks."""
        anew = [row.left == 0 and self._begin(row) for row in self.rows]
        characters = np.array([self._piece(row) for row in self.rows]).T.copy()
        languages = np.array([row.language for row in self.rows])
        ages = np.array([row.age for row in self.rows]) + np.arange(LENGTH)[:, np.newaxis]
        for row in self.rows:
            row.left -= 1
            row.age += LENGTH
        weights = (1.0 + 3.0 * (characters == BLANK)) * np.minimum(ages / SETTLED, 1)
        return Batch(
            characters,
            np.broadcast_to(languages, characters.shape).copy(),
            weights.astype(np.float32),
            np.array(anew),
        )

"""`treadle demo`: a character-level LSTM reads a text and tells its language, while you watch.

The network in demo/langid.safetensors was trained by examples/train_langid.py on Debian's word
lists. It is run here as any user would run it: `LSTM.load_state_dict`, then one `Stream.step` per
character. With E the embedding, x_t the character at t and h_t the hidden state:

    h_t = LSTM(E[x_t], h_{t-1}),    p(language | x_1..x_t) = softmax(W h_t + b)

How it is drawn is in `treadle.demo.screen`.
"""

from __future__ import annotations

import codecs
import io
import os
import re
import statistics
import sys
import time
import unicodedata
from collections import deque
from importlib.resources import files
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO, TextIO

import numpy as np

from treadle._storage import safetensors
from treadle.demo.screen import Screen, percent
from treadle.functional import linear
from treadle.layers.recurrent import LSTM
from treadle.runtime import isa

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy.typing as npt

    from treadle._inputs.types import Float

__all__ = ["FORMAT", "Reader", "encode", "main", "normalise", "run"]

FORMAT = "treadle.langid/2"
ABOUT = ("alphabet", "languages", "accuracy", "steps", "seed")  # in the file's metadata
DEFAULT = "I love AI"
LONGEST = 64  # characters; a longer word is read and shown in pieces
ALL_SHOWN = 12  # so many words are all shown, then only the 16th, the 32nd, ... and the last
CLOSING = 5  # lines of the verdict, the line above it and the line of the prompt below it
LIKE_A_FILE = re.compile(r"\S*\w\.\w{1,5}")  # file.txt
RECENT = 4096  # characters whose times are kept for the median
BLOCK = 65536  # bytes per read of a file
WARM_UP = 8  # untimed steps before the first character, which fetch code and weights
SLOW, PAUSE = 120, 0.025  # on a terminal the first characters are read at a speed one can follow

CHEERS = {
    "English": "Splendid!",
    "French": "Et voilà !",
    "German": "Wunderbar!",
    "Spanish": "¡Olé!",
    "Italian": "Bellissimo!",
    "Portuguese": "Que maravilha!",
    "Dutch": "Gezellig!",
    "Polish": "Cudownie!",
    "Swedish": "Toppen!",
    "Danish": "Hyggeligt!",
    "Norwegian": "Koselig!",
}


def normalise(text: str) -> str:
    """Return a text as the network sees it: lower case, one form of letters and apostrophes.

    >>> normalise("Où est la Ⅷ?")
    'où est la viii?'
    """
    lower = unicodedata.normalize("NFKC", text).lower()
    return unicodedata.normalize("NFC", lower).replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")


def encode(text: str, alphabet: str, after_blank: bool = False) -> list[int]:
    """Return the place in the alphabet of each character of a text; place 0 is the blank.

    A letter with an accent that the alphabet lacks is read without it. Every other character that
    is not in the alphabet, such as a digit, a sign or an emoji, is read as a blank, and blanks that
    follow each other, or one before the text, as one blank.

    >>> encode("Abba - 1999 - a\N{CARON}!", " abc")
    [1, 2, 2, 1, 0, 1, 0]
    """
    codes = []
    for character in normalise(text):
        code = alphabet.find(character)
        if code < 0:
            code = max(alphabet.find(unicodedata.normalize("NFD", character)[0]), 0)
        if code or not after_blank:
            codes.append(code)
        after_blank = not code
    return codes


class Reader:
    """A reader takes a text character by character and keeps probabilities of its language.

    >>> reader = Reader()
    >>> reader.read("ich liebe dich ")
    >>> reader.ranking()[0][0]
    'German'
    """

    def __init__(self, dtype: str = "float32") -> None:
        data = (files("treadle.demo") / "langid.safetensors").read_bytes()
        file = io.BytesIO(data)
        header = safetensors.read_header(file, len(data), "treadle.demo: langid.safetensors")
        about = safetensors.read_about(header, FORMAT, ABOUT)
        tensors = {name: safetensors.read(file, header, name) for name in header.tensors}
        self.alphabet: str = about["alphabet"]
        self.languages: list[str] = about["languages"]
        self.accuracy: dict[str, float] = about["accuracy"]
        # Each character has a row [1, I], which a step takes as a view without a copy.
        self.rows = [row[np.newaxis] for row in tensors["embedding.weight"]]
        self._head = tensors["head.weight"], tensors["head.bias"]
        prefix = "lstm."
        weights = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
        hidden, embedding = weights["weight_ih_l0"].shape[0] // 4, self.rows[0].shape[1]
        self.lstm = LSTM(embedding, hidden, dtype=dtype)
        self.lstm.load_state_dict(weights)
        self._stream = self.lstm.stream()
        self.hidden = np.zeros((1, hidden), np.float32)
        for _ in range(WARM_UP):
            self._stream.step(self.rows[0], out=self.hidden)
        self.nanoseconds: deque[int] = deque(maxlen=RECENT)
        self.reset()

    def reset(self) -> None:
        """Forget what has been read."""
        self._stream.reset()
        self.hidden[:] = 0
        self.characters = 0  # that the network has read: signs in a row are one blank
        self.letters = self.known = 0  # of the text; of the alphabet
        self.cyrillic = 0  # of the known letters
        self._blank = True  # nothing or a blank stands before the next character
        self.nanoseconds.clear()

    def read(self, text: str) -> None:
        """Take one step of the network for each character."""
        step, clock = self._stream.step, time.perf_counter_ns
        self.letters += sum(map(str.isalpha, text))
        for code in encode(text, self.alphabet, self._blank):
            row = self.rows[code]
            start = clock()
            step(row, out=self.hidden)
            self.nanoseconds.append(clock() - start)
            self.characters += 1
            self.known += self.alphabet[code].isalpha()
            self.cyrillic += "\u0400" <= self.alphabet[code] <= "\u04ff"
            self._blank = not code

    def probabilities(self, hidden: Float | None = None) -> npt.NDArray[np.float64]:
        """Return p(language | characters so far), in the order of `languages`; uniform at first.

        ``hidden`` [1, H] is an earlier state, which is then used in place of the current one.
        """
        if not self.characters:
            return np.full(len(self.languages), 1 / len(self.languages))
        logits = linear(self.hidden if hidden is None else hidden, *self._head)[0].astype(
            np.float64
        )
        powers = np.exp(logits - logits.max())
        return np.asarray(powers / powers.sum())

    def ranking(self, hidden: Float | None = None) -> list[tuple[str, float]]:
        """Return the languages with their probabilities, the likeliest first."""
        pairs = zip(self.languages, self.probabilities(hidden).tolist(), strict=True)
        return sorted(pairs, key=lambda pair: -pair[1])

    def microseconds(self, last: int = RECENT) -> float:
        """Return the median time of the last steps, 0 before the first step."""
        times = list(islice(reversed(self.nanoseconds), last))
        return statistics.median(times) / 1e3 if times else 0.0


def words(chunks: Iterable[str]) -> Iterator[str]:
    """Yield the words of a text that comes in pieces; none is longer than `LONGEST`.

    >>> list(words(["ich lie", "be", " dich"]))
    ['ich', 'liebe', 'dich']
    """
    rest = ""
    for chunk in chunks:
        rest += chunk
        parts = rest.split()
        # The last part may go on in the next chunk, unless whitespace closed it.
        rest = parts.pop() if parts and not rest[-1].isspace() else ""
        for part in parts:
            yield from pieces(part)
        while len(rest) > LONGEST:
            yield rest[:LONGEST]
            rest = rest[LONGEST:]
    yield from pieces(rest)


def pieces(word: str) -> Iterator[str]:
    for start in range(0, len(word), LONGEST):
        yield word[start : start + LONGEST]


def decoded(file: BinaryIO) -> Iterator[str]:
    """Yield the text of a file of any size: UTF-8, or UTF-16 with its mark; bad bytes are U+FFFD.

    A pipe is read as it fills, so that words show when they are written.
    """
    read = getattr(file, "read1", file.read)
    block: bytes = read(BLOCK)
    utf16 = block[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    decoder = codecs.getincrementaldecoder("utf-16" if utf16 else "utf-8-sig")("replace")
    while block:
        yield decoder.decode(block)
        block = read(BLOCK)
    yield decoder.decode(b"", final=True)


def show_word(reader: Reader, word: str, screen: Screen, keep: bool) -> None:
    """Read one word, then draw it: on a terminal as a slow replay of the steps.

    The steps come one after the other and the drawing afterwards: a pause between two steps would
    leave the weights in no cache, and the time per character would be that of the pause.
    """
    slow = screen.live and reader.characters < SLOW
    states, start = [], reader.characters
    for character in (*normalise(word), " "):
        reader.read(character)
        if slow:
            states.append(reader.hidden.copy())
    if not slow and (keep or screen.due()):
        states.append(reader.hidden)
    for state in states:
        micro = reader.microseconds(reader.characters - start)
        screen.draw(word, state[0], reader.ranking(state), micro)
        time.sleep(PAUSE if slow else 0)
    if keep:
        screen.keep()


def tell(chunks: Iterable[str], screen: Screen) -> None:
    """Read a text, show what happens after each word, and end with a verdict.

    On a terminal as many panels stay as leave the title visible; later words are shown in place of
    each other. Elsewhere twelve panels are printed, then those of the 16th word, the 32nd, ...
    """
    reader = Reader()
    screen.header(reader.hidden.shape[1], isa(), reader.languages)
    all_shown = screen.panels(CLOSING) if screen.live else ALL_SHOWN
    count, word, kept, interrupted = 0, "", True, False
    try:
        for count, word in enumerate(words(chunks), start=1):
            kept = count <= all_shown or (not screen.live and count & (count - 1) == 0)
            if count == all_shown + 1 and not screen.live:
                rest = "only the 16th word, the 32nd, ..., the last"
                screen.print(f"(a long text: from here {rest})", screen.dim)
            show_word(reader, word, screen, kept)
    except KeyboardInterrupt:  # the verdict is then about the part that has been read
        interrupted = True
    if screen.unfinished or not kept:
        screen.draw(word, reader.hidden[0], reader.ranking(), reader.microseconds())
        screen.keep()
    screen.print()
    verdict(reader, count, screen)
    if interrupted:
        raise KeyboardInterrupt


def verdict(reader: Reader, count: int, screen: Screen) -> None:
    """Print the language, how sure it is, and the speed; at most `CLOSING` lines of 79 columns."""
    if not count:
        screen.print('Nothing to read. Try:  treadle demo "ich liebe dich"')
        return
    (first, p), (second, q), *_ = reader.ranking()
    if not reader.known:
        text = f"{first}, {percent(p)}: a blind guess, there was no letter I know."
    elif 2 * reader.known < reader.letters:
        text = (
            f"{first}, {percent(p)}, by the few letters that I know; most are of other alphabets."
        )
    elif p < 0.5:
        text = (
            f"{first}, {percent(p)}, or {second}, {percent(q)}: hard to say. Another word may help."
        )
    elif 2 * reader.cyrillic > reader.known:
        text = f"{first}, {percent(p)}: Cyrillic is an alphabet that I know only as Ukrainian."
    else:
        text = f"{first}, {percent(p)}. {screen.if_encodable(CHEERS.get(first, ''))}"
    screen.print(f"{screen.arrow} {text}", screen.bold)
    micro, unit = reader.microseconds(), screen.microseconds
    if reader.characters:
        speed = f"{1e6 / micro:,.0f} a second" if micro else "too fast for this clock"
        characters = f"{reader.characters:,} characters in {count:,} word{'s' * (count > 1)}"
        screen.print(f"{characters}, {micro:.1f} {unit} each: {speed}.")
    one, five = reader.accuracy["1"], reader.accuracy["5"]
    right = f"It is right on five words that it never saw in {five:.0%} of cases"
    screen.print(f"{right}, on one in {one:.0%}.", screen.dim)


def run(
    text: str | Iterable[str], *, stream: TextIO | None = None, color: bool | None = None
) -> None:
    """Tells the language of a text and shows how it finds out.

    Args:
        text: any text, or an iterable of pieces of a text such as an open text file.
        stream: where to write, sys.stdout by default. On a terminal it is redrawn as it reads.
        color: True or False; by default colours on a terminal, unless NO_COLOR is set.

    Raises:
        TypeError: text is neither.

    >>> import io
    >>> page = io.StringIO()
    >>> run("où est la bibliothèque", stream=page)
    >>> "French" in page.getvalue()
    True
    """
    kind: type = type(text)
    if issubclass(kind, (bytes, bytearray)) or not hasattr(kind, "__iter__"):
        raise TypeError(
            f"treadle.demo.run: text is of type {kind.__name__}, "
            "expected a str or an iterable of str"
        )
    chunks = [text] if isinstance(text, str) else text
    tell(chunks, Screen(sys.stdout if stream is None else stream, color))


def main(text: str | None = None, file: str | None = None, *, color: bool | None = None) -> None:
    """Run the command line on a text, a file ("-" is standard input), piped input or `DEFAULT`.

    A text that is "-" or the name of a file stands for its content, and the command says so. Files
    are read as they come, whatever bytes they hold. Ctrl-C ends the text: the verdict on what was
    read is printed before KeyboardInterrupt goes on to the caller.

    Raises:
        OSError: the file cannot be read.
    """
    # sys.stdin is None where standard input was closed.
    piped = not getattr(sys.stdin, "isatty", lambda: True)()
    if text is None and file is None and piped:
        file = "-"
    elif text == "-" or (text and is_file(text)):
        print(f"(reading {'standard input' if text == '-' else f'the file {text}'})")
        text, file = None, text
    elif text and LIKE_A_FILE.fullmatch(text):
        print(f"(there is no file {text} here, so these letters are the text)")
    if text is not None or file is None:
        run(DEFAULT if text is None else text, color=color)
    elif file == "-":
        # A replacement of standard input, as in a notebook, may have no buffer of bytes.
        run(decoded(sys.stdin.buffer) if hasattr(sys.stdin, "buffer") else sys.stdin, color=color)
    else:
        with open(file, "rb") as source:
            run(decoded(source), color=color)


def is_file(text: str) -> bool:
    """Tell whether a text is the path of a file; what can be no path at all is none."""
    try:
        return os.path.isfile(text)
    except ValueError:  # a zero byte, or a lone surrogate
        return False

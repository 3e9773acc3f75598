"""Tokenizers of directories that have files of sentencepiece alone: Marian's, T5's and others.

The library sentencepiece cuts texts into pieces; the library tokenizers does the rest, as for every
other tokenizer: its model is a table of pieces, and sentencepiece stands before it as a
pre-tokenizer. Of Marian, source.spm cuts texts that are read and target.spm those that are written
(``text_target``), and vocab.json numbers the pieces of both. Of T5, the pieces of spiece.model have
its own numbers, and a hundred tokens <extra_id_0> ... follow them. Translators of many languages
are in `tokenizer_languages`.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from treadle._inputs.checks import integer
from treadle._storage.files import check_regular
from treadle.transformers import tokenizer_languages
from treadle.transformers.directory import exists, read_json
from treadle.transformers.tokenizer_library import guarded

if TYPE_CHECKING:
    from treadle.transformers.tokenizer_classes import TokenizerClass

# The files of each kind of tokenizer; "sentencepiece" names a model of that library.
FILES = {
    "marian": ("source.spm", "target.spm", "vocab.json"),
    "t5": ("spiece.model",),
    "m2m_100": ("sentencepiece.bpe.model", "vocab.json"),
    "nllb": ("sentencepiece.bpe.model",),
    "mbart": ("sentencepiece.bpe.model",),
    "mbart50": ("sentencepiece.bpe.model",),
}
_EXTRA_TOKENS, _MAX_EXTRA = 100, 2**16
_MAX_BYTES = 2**28
_MAX_PIECES = 2**22
# sentencepiece's mark of a space.
_SPACE = "\u2581"


def has_files(directory: str, kind: TokenizerClass) -> bool:
    """Tell whether a directory has the files from which a tokenizer of this class is made."""
    return kind.kind in FILES and all(exists(directory, name) for name in FILES[kind.kind])


def build(function: str, directory: str, kind: TokenizerClass, settings: dict[str, Any]) -> Any:
    """Make the library's tokenizer of a directory, for which `has_files` is true.

    Raises
    ------
    ImportError
        Without sentencepiece.
    ValueError
        For damaged files.
    """
    if kind.kind == "marian":
        return _marian(function, directory, kind, "source.spm")
    if kind.kind == "t5":
        return _t5(function, directory, kind, settings)
    return _of_languages(function, directory, kind, settings, target=False)


def of_pieces(directory: str, kind: TokenizerClass) -> bool:
    """Tell whether sentencepiece cuts the texts of a directory's tokenizer."""
    return not exists(directory, "tokenizer.json") and has_files(directory, kind)


def build_target(
    function: str, directory: str, kind: TokenizerClass, settings: dict[str, Any]
) -> Any:
    """Make the tokenizer of the texts that are written, None where it is the same."""
    if kind.kind == "t5" or not of_pieces(directory, kind):
        return None
    if kind.kind == "marian":
        return _marian(function, directory, kind, "target.spm")
    return _of_languages(function, directory, kind, settings, target=True)


class _Pieces:
    """A pre-tokenizer of the library, which sentencepiece's pieces of a text are."""

    def __init__(self, model: Any, *, codes: bool) -> None:
        self._model, self._codes = model, codes

    def pre_tokenize(self, text: Any) -> None:
        """Cut what is no special token into pieces."""
        text.split(self._cut)

    def _cut(self, _: int, part: Any) -> list[Any]:
        make = import_module("tokenizers").NormalizedString
        text, pieces = str(part), []
        # Marian's language codes, such as >>fr<<, are pieces of their own at the beginning.
        if self._codes and text.startswith(">>") and "<<" in text:
            end = text.index("<<") + 2
            pieces.append(text[:end])
            text = text[end:]
        pieces += self._model.encode(text, out_type=str)
        return [make(piece) for piece in pieces]


class _Joined:
    """A decoder of the library, which puts pieces together to a text."""

    def decode(self, tokens: list[str]) -> str:
        """Return the text of pieces."""
        return self.decode_chain(tokens)[0]

    def decode_chain(self, tokens: list[str]) -> list[str]:
        """Return the text as the only part of a chain."""
        return ["".join(tokens).replace(_SPACE, " ").strip()]


def _load(function: str, directory: str, name: str) -> Any:
    try:
        library = import_module("sentencepiece")
    except ImportError as error:
        raise ImportError(
            f"{function}: {directory} has no tokenizer.json, and the library sentencepiece, which "
            f"reads its {name}, cannot be imported ({error}); pip install "
            "treadle[sentencepiece]"
        ) from error
    path = os.path.join(directory, name)
    check_regular(function, path)
    if os.path.getsize(path) > _MAX_BYTES:
        raise ValueError(f"{function}: {path} has more than {_MAX_BYTES} bytes")
    model = library.SentencePieceProcessor()
    try:
        with open(path, "rb") as file:
            model.LoadFromSerializedProto(file.read())
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{function}: {path} is no model of sentencepiece: {error}") from None
    if not 0 < model.get_piece_size() <= _MAX_PIECES:
        raise ValueError(f"{function}: {path} has {model.get_piece_size()} pieces")
    return model


def _marian(function: str, directory: str, kind: TokenizerClass, name: str) -> Any:
    vocabulary = _numbers(function, directory)
    where = f"{function}: {directory}/vocab.json"
    native = _native(where, vocabulary, _load(function, directory, name), kind, codes=True)
    return _with_template(native, kind, vocabulary, ["$A", "{end}"], ["$A", "$B", "{end}"])


def _numbers(function: str, directory: str) -> dict[str, int]:
    """Read vocab.json, the numbers of pieces."""
    vocabulary = read_json(function, directory, "vocab.json")
    numbers = set(vocabulary.values())
    if len(numbers) != len(vocabulary) or not all(
        type(number) is int and 0 <= number < _MAX_PIECES for number in vocabulary.values()
    ):
        raise ValueError(
            f"{function}: {directory}/vocab.json has values that are no numbers, each once, of "
            "pieces"
        )
    return vocabulary


def _of_languages(
    function: str,
    directory: str,
    kind: TokenizerClass,
    settings: dict[str, Any],
    *,
    target: bool,
) -> Any:
    """Make the tokenizer of texts that are read, or of those written, in the settings' language."""
    where = f"{function}: {directory}/{FILES[kind.kind][-1]}"
    form = tokenizer_languages.form_of(f"{function}: {directory}", kind, settings)
    assert form is not None
    model = _load(function, directory, FILES[kind.kind][0])
    if kind.kind == "m2m_100":
        numbers = _numbers(function, directory)
        vocabulary = tokenizer_languages.with_languages(where, numbers, form)
    else:
        vocabulary = tokenizer_languages.numbered(model, form)
    native = _native(where, vocabulary, model, kind, codes=False)
    token = import_module("tokenizers").AddedToken
    special = [token(t, special=True, normalized=False) for t in form.tokens()]
    guarded(where, native.add_tokens, special)
    name = tokenizer_languages.language(f"{function}: {directory}", form, settings, target=target)
    single, pair = tokenizer_languages.template(form, name, "{end}")
    return _with_template(native, kind, vocabulary, single, pair)


def _t5(function: str, directory: str, kind: TokenizerClass, settings: dict[str, Any]) -> Any:
    where = f"{function}: {directory}/{FILES['t5'][0]}"
    model = _load(function, directory, FILES["t5"][0])
    vocabulary = {model.id_to_piece(i): i for i in range(model.get_piece_size())}
    native = _native(where, vocabulary, model, kind, codes=False)
    _with_template(native, kind, vocabulary, ["$A", "{end}"], ["$A", "{end}", "$B", "{end}"])
    token = import_module("tokenizers").AddedToken
    given = settings.get("extra_ids")
    count = _EXTRA_TOKENS if given is None else integer(where, "extra_ids", given, 0, _MAX_EXTRA)
    extra = [f"<extra_id_{i}>" for i in reversed(range(count))]
    guarded(where, native.add_tokens, [token(t, special=True, normalized=False) for t in extra])
    return native


def _native(
    where: str, vocabulary: dict[str, int], model: Any, kind: TokenizerClass, *, codes: bool
) -> Any:
    tokenizers = import_module("tokenizers")
    unknown, end = kind.tokens["unk_token"], kind.tokens["eos_token"]
    for token in (unknown, end):
        if token not in vocabulary:
            raise ValueError(f"{where} has no token {token!r}, which its tokenizer needs")
    words = tokenizers.models.WordLevel
    native = tokenizers.Tokenizer(guarded(where, words, vocabulary, unk_token=unknown))
    native.pre_tokenizer = tokenizers.pre_tokenizers.PreTokenizer.custom(
        _Pieces(model, codes=codes)
    )
    native.decoder = tokenizers.decoders.Decoder.custom(_Joined())
    return native


def _with_template(
    native: Any,
    kind: TokenizerClass,
    vocabulary: dict[str, int],
    single: list[str],
    pair: list[str],
) -> Any:
    """Put special tokens around texts; "{end}" stands for the end token."""
    end = kind.tokens["eos_token"]
    forms = [[end if part == "{end}" else part for part in form] for form in (single, pair)]
    used = {part for form in forms for part in form if not part.startswith("$")}
    native.post_processor = import_module("tokenizers").processors.TemplateProcessing(
        single=forms[0], pair=forms[1], special_tokens=[(t, vocabulary[t]) for t in sorted(used)]
    )
    return native

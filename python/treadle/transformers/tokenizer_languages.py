"""Tokenizers of translators of many languages that have files of sentencepiece alone.

M2M-100, NLLB, mBART and mBART-50 have the pieces of sentencepiece.bpe.model and a token for each
language, which stands before the text or behind its end. The pieces of M2M-100 have the numbers of
vocab.json, and the languages follow. Of the others, <s>, <pad>, </s> and <unk> come first, the
pieces have the numbers of sentencepiece plus one, as in fairseq, and then come the languages and
<mask>. So does the Python code of Transformers 4.57 have it, and for M2M-100 that of 5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from treadle._inputs.checks import flag, shown
from treadle.transformers import tokenizer_language_codes as codes

if TYPE_CHECKING:
    from treadle.transformers.tokenizer_classes import TokenizerClass

_FIRST = ("<s>", "<pad>", "</s>", "<unk>")
_MASK = "<mask>"


class Form(NamedTuple):
    """How a class of tokenizers names languages."""

    languages: tuple[str, ...]
    default: str
    """The language of texts where nothing says another."""
    first: bool = True
    """True if the language stands before the text, and not behind its end."""
    token: str = "{}"
    """How the token of a language is written."""

    def tokens(self) -> tuple[str, ...]:
        """Return the tokens of all languages."""
        return tuple(self.token.format(language) for language in self.languages)


FORMS = {
    "m2m_100": Form(codes.M2M_100, "en", token="__{}__"),
    "nllb": Form(codes.NLLB, "eng_Latn"),
    "mbart": Form(codes.MBART, "en_XX", first=False),
    "mbart50": Form(codes.MBART50, "en_XX"),
}


def form_of(where: str, kind: TokenizerClass, settings: dict[str, Any]) -> Form | None:
    """Return the form of a class with languages as the settings change it, or else None."""
    form = FORMS.get(kind.kind)
    if form is None:
        return None
    if kind.kind == "m2m_100" and settings.get("language_codes") is not None:
        known = {"m2m100": codes.M2M_100, "wmt21": codes.WMT21}
        name = settings["language_codes"]
        if not isinstance(name, str) or name not in known:
            raise ValueError(
                f"{where}: language_codes is {shown(name)}, expected one of {', '.join(known)}"
            )
        form = form._replace(languages=known[name])
    # NLLB's first form puts the language behind the end.
    legacy = settings.get("legacy_behaviour")
    if kind.kind == "nllb" and legacy is not None:
        form = form._replace(first=not flag(where, "legacy_behaviour", legacy))
    return form


def language(where: str, form: Form, settings: dict[str, Any], *, target: bool) -> str:
    """Return the token of the language of the texts that are read, or of those written.

    Raises
    ------
    ValueError
        For src_lang or tgt_lang that the tokenizer has no token for.
    """
    names = ("tgt_lang", "src_lang") if target else ("src_lang",)
    for name in names:
        given = settings.get(name)
        if given is None:
            continue
        if not isinstance(given, str) or given not in form.languages:
            raise ValueError(
                f"{where}: {name} is {shown(given)}, expected a language that the tokenizer has a "
                f"token for, such as {', '.join(form.languages[:4])}"
            )
        return form.token.format(given)
    return form.token.format(form.default)


def numbered(model: Any, form: Form) -> dict[str, int]:
    """Return the numbers of all tokens: fairseq's four, the pieces, the languages and <mask>."""
    count = model.get_piece_size()
    vocabulary = {model.id_to_piece(i): i + 1 for i in range(3, count)}
    vocabulary |= {token: i for i, token in enumerate(_FIRST)}
    later = (*form.tokens(), _MASK)
    return vocabulary | {token: count + 1 + i for i, token in enumerate(later)}


def with_languages(where: str, vocabulary: dict[str, int], form: Form) -> dict[str, int]:
    """Return the numbers of M2M-100's vocab.json and of the languages behind them."""
    count = len(vocabulary)
    if set(vocabulary.values()) != set(range(count)):
        raise ValueError(
            f"{where} has other numbers than 0 to {count - 1}, each once, behind which the "
            "languages come"
        )
    return vocabulary | {token: count + i for i, token in enumerate(form.tokens())}


def template(form: Form, token: str, end: str) -> tuple[list[str], list[str]]:
    """Return the forms of a text and of a pair of texts in a language."""
    before, behind = ([token], [end]) if form.first else ([], [end, token])
    return [*before, "$A", *behind], [*before, "$A", "$B", *behind]

"""This module puts the tokens of languages around texts, for models that translate many.

A tokenizer.json has the tokens of one source language, the one it was saved with. A source is
``[language] text [end]`` or ``text [end] [language]``, as the class of the tokenizer says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from treadle._inputs.checks import shown
from treadle.transformers.directory import exists, read_json

if TYPE_CHECKING:
    from treadle.transformers.generator import GeneratingModel
    from treadle.transformers.tokenizer import AutoTokenizer


class _Form(NamedTuple):
    first: bool
    """True if the language stands before the text, and not behind its end."""
    token: str
    """How a language's token is written."""


_FORMS = {
    "MBartTokenizer": _Form(first=False, token="{}"),
    "MBart50Tokenizer": _Form(first=True, token="{}"),
    "NllbTokenizer": _Form(first=True, token="{}"),
    "M2M100Tokenizer": _Form(first=True, token="__{}__"),
}
# The class of a directory that names none, by its model_type.
_MODELS = {"mbart": "MBartTokenizer", "m2m_100": "M2M100Tokenizer"}


class Languages:
    """The languages of a model that translates many."""

    def __init__(self, name: str, tokenizer: AutoTokenizer, form: _Form) -> None:
        self._name, self._tokenizer, self._form = name, tokenizer, form

    @classmethod
    def of(cls, name: str, model: GeneratingModel, tokenizer: AutoTokenizer) -> Languages | None:
        """Return the languages that the tokenizer's class has, None for a class of one pair."""
        path, settings = tokenizer.name_or_path, {}
        if exists(path, "tokenizer_config.json"):
            settings = read_json(name, path, "tokenizer_config.json")
        kind = settings.get("tokenizer_class") or _MODELS.get(model.config.to_dict()["model_type"])
        form = _FORMS.get(str(kind).removesuffix("Fast"))
        if form is None:
            return None
        if settings.get("legacy_behaviour"):  # NLLB's first form
            form = form._replace(first=False)
        return cls(name, tokenizer, form)

    def token(self, language: str | None, argument: str) -> int:
        """Return the number of a language's token."""
        if language is None:
            raise ValueError(
                f"{self._name}: {argument} is None, expected a language: this model translates "
                "many, and needs src_lang and tgt_lang"
            )
        vocabulary = self._tokenizer.get_vocab()
        for text in (self._form.token.format(language), language):
            if text in vocabulary:
                return vocabulary[text]
        raise ValueError(
            f"{self._name}: {argument} is {shown(language)}, expected a language that the "
            f"tokenizer has a token for, such as {', '.join(self._examples()) or 'none at all'}"
        )

    def source(self, texts: list[str], language: str, options: dict[str, Any]) -> list[list[int]]:
        """Return the tokens of texts in a language."""
        special, end = self.token(language, "src_lang"), self._tokenizer.eos_token_id
        if end is None:
            raise ValueError(f"{self._name}: the tokenizer has no eos_token, expected one")
        if options.get("truncation"):
            room = self._tokenizer._most(None) - 2
            options = options | {"max_length": max(room, 0)}
        rows = self._tokenizer(texts, add_special_tokens=False, **options)["input_ids"]
        if self._form.first:
            return [[special, *row, end] for row in rows]
        return [[*row, end, special] for row in rows]

    def _examples(self) -> list[str]:
        before, _, after = self._form.token.partition("{}")
        extra = self._tokenizer.extra_special_tokens
        return [text.removeprefix(before).removesuffix(after) for text in extra[:4]]

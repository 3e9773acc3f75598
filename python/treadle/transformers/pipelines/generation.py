"""This module has what the pipelines that write texts share: options, prompts, and new tokens.

The options of `generate` come from, in this order: a call, the constructor, config.json's
task_specific_params, the model's files, and the defaults of the task.
"""

from __future__ import annotations

import os
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from treadle._inputs.checks import flag, shown
from treadle.generation import GenerationConfig
from treadle.transformers.batches import padded
from treadle.transformers.directory import exists, read_json, wrong
from treadle.transformers.pipelines.base import Pipeline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from treadle.transformers.generator import GeneratingModel

_OPTIONS = tuple(field.name for field in fields(GenerationConfig))
_ARGUMENTS = ("logits_hook", "streamer", "uniform")
# These matter for sampling alone.
_SAMPLING = ("temperature", "top_k", "top_p", "min_p")
# A task writes so many tokens at most where nothing says another number.
_NEW_TOKENS = 256


class Written(NamedTuple):
    """The tokens that a model wrote for one prompt, once for each sequence that was asked for."""

    prompt: list[int]
    new: list[list[int]]


class GenerationPipeline(Pipeline):
    """The base of the pipelines that write texts."""

    model: GeneratingModel
    # The options of `generate` that nobody gives.
    _TASK: ClassVar[dict[str, Any]] = {}
    _prompt_is_returned: ClassVar[bool]
    _prefix: str
    """The text before every input that config.json asks for."""

    def _known(self) -> dict[str, Any]:
        of_generate = dict.fromkeys((*_OPTIONS, *_ARGUMENTS, "generation_config"), _UNSET)
        return of_generate | self._DEFAULTS

    def _load(self) -> None:
        config = self.model.config.to_dict()
        self._specific = self._specific_options(config)
        prefix = self._specific.pop("prefix", config.get("prefix"))
        self._prefix = "" if prefix is None else self._of_file("prefix", prefix)
        self._set_by_files = _set_by_files(self._name(), self.model, config)

    def _specific_options(self, config: dict[str, Any]) -> dict[str, Any]:
        """Return the entries of config.json for this task."""
        tasks = config.get("task_specific_params")
        if tasks is None:
            return {}
        chosen = tasks.get(self._specific_task(tasks)) if isinstance(tasks, dict) else tasks
        if not isinstance(chosen, dict | None):
            raise wrong(
                self._name(), "task_specific_params of config.json", tasks, "options by task"
            )
        found = {k: v for k, v in (chosen or {}).items() if k in (*_OPTIONS, "prefix")}
        options = {k: v for k, v in found.items() if k != "prefix"}
        try:
            GenerationConfig(**options)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{self._name()}: task_specific_params of config.json: {error}"
            ) from None
        return found

    def _specific_task(self, tasks: dict[str, Any]) -> str:
        """Return the name that the task has in config.json."""
        return self.task

    def _of_file(self, name: str, value: object) -> str:
        if not isinstance(value, str):
            raise wrong(self._name(), f"{name} of config.json", value, "a text")
        return self._text(value)

    def _check_generation(self, settings: dict[str, Any]) -> None:
        """Put the options of `generate` together: those that anybody gives, and the task's."""
        given = {
            name: settings[name] for name in _OPTIONS if settings.get(name, _UNSET) is not _UNSET
        }
        config = settings["generation_config"]
        if config is _UNSET or config is None:
            config = self.model.generation_config.merged(**self._specific)
            known = self._set_by_files | set(self._specific) | _changed(config)
        elif isinstance(config, GenerationConfig):
            known = _changed(config)
        else:
            raise TypeError(
                f"{self._name()}: generation_config is {shown(config)}, expected a "
                "treadle.generation.GenerationConfig"
            )
        known |= set(given)
        more = {name: value for name, value in self._TASK.items() if name not in known}
        if not given.get("do_sample", more.get("do_sample", config.do_sample)):
            more = {name: value for name, value in more.items() if name not in _SAMPLING}
        if config.pad_token_id is None and self.tokenizer.pad_token_id is not None:
            more["pad_token_id"] = self.tokenizer.pad_token_id
        settings["generation_config"] = config.merged(**more, **given)
        arguments = {name: settings[name] for name in _ARGUMENTS}
        settings["arguments"] = {k: v for k, v in arguments.items() if v is not _UNSET}

    def _write(
        self, prompts: Sequence[list[int]], settings: dict[str, Any], **more: Any
    ) -> list[Written]:
        """Let the model write behind prompts, as arguments ``more`` of `generate` say, too."""
        batch = padded({"input_ids": prompts})
        config = self._with_length(settings["generation_config"], max(map(len, prompts)))
        result = self.model.generate(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            generation_config=config,
            **settings["arguments"],
            **more,
        )
        sequences = np.asarray(result if isinstance(result, np.ndarray) else result["sequences"])
        each = len(sequences) // len(prompts)
        rows = sequences.reshape(len(prompts), each, -1).tolist()
        width = batch.input_ids.shape[1] if self._prompt_is_returned else 0
        limits = config.limits([len(prompt) if width else 1 for prompt in prompts])
        written = []
        for prompt, found, limit in zip(prompts, rows, limits, strict=True):
            most = limit - len(prompt) if width else limit
            ended = [_ended(row[width:][:most], config, 0 if width else 1) for row in found]
            written.append(Written(prompt, ended))
        return written

    def _with_length(self, config: GenerationConfig, longest: int) -> GenerationConfig:
        """Let nobody's limit be the task's, or what the model has positions for."""
        if config.max_length is not None or config.max_new_tokens is not None:
            return config
        most = self.model._shapes.decoder.most_tokens
        begun = longest if self._prompt_is_returned else 1
        # The last token is returned, but not fed to the model.
        room = _NEW_TOKENS if most is None else min(_NEW_TOKENS, most + 1 - begun)
        return config.merged(max_new_tokens=max(room, 1))

    def _flag(self, settings: dict[str, Any], name: str) -> None:
        if settings[name] is not None:
            flag(self._name(), name, settings[name])


class _Unset:
    """The value of an option that nobody gives, since None means something."""

    def __repr__(self) -> str:
        return "unset"


_UNSET = _Unset()


def _changed(config: GenerationConfig) -> set[str]:
    """Return the options whose values are not the defaults."""
    return {field.name for field in fields(config) if getattr(config, field.name) != field.default}


def _set_by_files(function: str, model: GeneratingModel, config: dict[str, Any]) -> set[str]:
    """Return the options of `generate` that the model's files have, with whatever values."""
    name = "generation_config.json"
    if os.path.isdir(model._directory) and exists(model._directory, name):
        config = read_json(function, model._directory, name)
    return {key for key in _OPTIONS if config.get(key) is not None}


def _ended(tokens: list[int], config: GenerationConfig, start: int) -> list[int]:
    """Leave out what stands behind the first end token, from ``start`` on."""
    ends = set(config.end_tokens)
    for place in range(start, len(tokens)):
        if tokens[place] in ends:
            return tokens[: place + 1]
    return [token for token in tokens if token >= 0]

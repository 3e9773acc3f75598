"""This module opens a checkpoint that generates: its config.json, its stacks and their weights."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, NamedTuple

from treadle.generation import GenerationConfig
from treadle.transformers.config import Config, refuse_adapter
from treadle.transformers.directory import exists, read_flag, read_json, wrong
from treadle.transformers.settings import GENERATING_CONFIG, check_values
from treadle.transformers.stack_shapes import read_shapes
from treadle.transformers.stack_weights import StackSources, StackWeights

if TYPE_CHECKING:
    from collections.abc import Mapping

    from treadle._inputs.types import Float
    from treadle.transformers.checkpoint import Checkpoint
    from treadle.transformers.generating_family import GeneratingFamily
    from treadle.transformers.stack_shapes import Shapes, StackShape

_AS_DESCRIBED = "it as config.json describes the model"


class Description(NamedTuple):
    """A checked config.json."""

    config: Config
    family: GeneratingFamily
    shapes: Shapes


def read_description(
    function: str, directory: str, families: Mapping[str, GeneratingFamily]
) -> Description:
    """Read and check config.json. Raises FileNotFoundError, ValueError."""
    entries = read_json(function, directory, "config.json")
    where = f"{function}: {directory}/config.json"
    refuse_adapter(function, directory)
    kind = entries.get("model_type")
    family = families.get(kind) if isinstance(kind, str) else None
    if family is None:
        raise wrong(where, "model_type", kind, f"one of {', '.join(families)}")
    check_values(where, entries, GENERATING_CONFIG)
    shapes = read_shapes(where, family, entries)
    given = {k: v for k, v in entries.items() if v is not None}  # None stands for the default
    flags = {
        name: read_flag(where, given, name, default=default)
        for name, default in (
            ("output_hidden_states", False),
            ("output_attentions", False),
            ("return_dict", True),
        )
    }
    return Description(Config(entries | shapes.common | flags), family, shapes)


def read_generation_config(function: str, directory: str, config: Config) -> GenerationConfig:
    """Read generation_config.json, or the options that older files have in config.json."""
    name = "generation_config.json"
    if exists(directory, name):
        content = read_json(function, directory, name)
    else:
        known = {field.name for field in fields(GenerationConfig)}
        content = {k: v for k, v in config.to_dict().items() if k in known and v is not None}
        name = "config.json"
    try:
        return GenerationConfig.from_dict(content)
    except (TypeError, ValueError) as error:  # every fault of a file is a ValueError
        raise ValueError(f"{function}: {directory}/{name}: {error}") from None


def open_weights(
    checkpoint: Checkpoint,
    family: GeneratingFamily,
    shapes: Shapes,
    dtype: str,
    *,
    with_head: bool = True,
) -> tuple[StackWeights | None, StackWeights]:
    """Check the tensors of encoder and decoder and return their weights, read when asked for.

    ``with_head`` asks for what makes logits of the decoder's output, too.
    """
    prefix = find_prefix(checkpoint, family, shapes.decoder)
    shared: dict[str, Float] = {}
    stacks: list[StackWeights | None] = []
    for shape in (shapes.encoder, shapes.decoder):
        if shape is None:
            stacks.append(None)
            continue
        stack = StackSources(checkpoint, family, shape, prefix)
        checkpoint.check(stack.checked(), _AS_DESCRIBED)
        if shape is shapes.decoder and with_head:
            stack.add_head(shapes.head)
            checkpoint.check(stack.checked(), _AS_DESCRIBED)
        stacks.append(StackWeights(checkpoint, stack, dtype, shared))
    encoder, decoder = stacks
    assert decoder is not None
    return encoder, decoder


def open_encoder(
    checkpoint: Checkpoint, family: GeneratingFamily, shape: StackShape, dtype: str
) -> StackWeights:
    """Check the tensors of an encoder alone and return its weights."""
    prefix = find_prefix(checkpoint, family, shape)
    stack = StackSources(checkpoint, family, shape, prefix)
    checkpoint.check(stack.checked(), _AS_DESCRIBED)
    return StackWeights(checkpoint, stack, dtype, {})


def find_prefix(checkpoint: Checkpoint, family: GeneratingFamily, shape: StackShape) -> str:
    """Find the prefix of the stacks' tensors: the family's in a model with a head, else none."""
    names = shape.names
    first = f"{names.layer.format(0)}{names.parts['linear2'][0]}.weight"
    return "" if first in checkpoint else family.prefix


def special_token(where: str, name: str, value: Any, vocabulary: int) -> int:
    """Check a token's number that is fed to a model."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < vocabulary:
        raise wrong(where, name, value, f"a token's number in 0..{vocabulary - 1}")
    return value

"""This module defines `load`: a file of Keras becomes a model of treadle, without Keras."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from treadle.graph.model import Model
from treadle.keras.building.builder import BATCH, TIME, Builder, Shape
from treadle.keras.building.model import Run
from treadle.keras.building.table import table
from treadle.keras.files.description import Reference, references
from treadle.keras.files.read import read

if TYPE_CHECKING:
    from collections.abc import Iterator

    from treadle._storage.files import Path
    from treadle.keras.files.description import ModelDescription

_FUNCTION = "treadle.keras.load"
# The dtypes of inputs that are computed in float32.
_FLOATS = ("float16", "bfloat16", "float32", "float64")


def load(path: Path, *, config: Path | dict[str, Any] | None = None) -> Model:
    """Read a model that Keras saved, and make it ready to run. No other package is needed.

    ``path`` is a file ``.keras`` or ``.h5`` of Keras 2 or Keras 3. A file of weights alone
    (``.weights.h5``) needs ``config``: the JSON of ``model.to_json()``, as a text, as the path of
    a file, or as a dict.

    A call takes the inputs by name, or in Keras' order, and returns the output, or a dict of arrays
    by output name where there are several. Any batch is taken, whatever the file says of its size.
    Layers compute as Keras does outside of training, with the masks that Keras computes; a layer
    that is stateful begins with zeros in each call, and carries its state in ``model.stream()``.

    The file is not trusted: its layers are looked up in treadle's own list, no code in it is run,
    and what is malformed or too large is refused before memory is taken for it.

    Raises
    ------
    ValueError
        For a file that is damaged or something else, and for a model that needs what treadle has
        not; the message names the layer and says what to do instead.
    TypeError
        When ``path`` is not a path, or ``config`` is something else than named.
    OSError
        When a file cannot be read.

    Examples
    --------
    >>> import treadle.keras
    >>> model = treadle.keras.load("model.keras")  # doctest: +SKIP
    >>> model.summary()  # doctest: +SKIP
    >>> model(x)  # doctest: +SKIP
    """
    description = read(path, config, _FUNCTION)
    return model_of(description, f"{_FUNCTION}: {os.fspath(path)!s}")


def model_of(description: ModelDescription, where: str) -> Model:
    """Return the model that a description stands for. Errors begin with ``where``."""
    builder = Builder(where, 2 if description.keras_version.startswith("2.") else 3)
    inputs = []
    time: dict[str, int] = {}
    for number, name in enumerate(description.input_names):
        dtype, shape = _dtype(description, number), _shape(description, number, where)
        tensor = builder.input(name, dtype, shape)
        inputs.append(tensor)
        if len(shape) > 2 or (len(shape) == 2 and dtype in ("int32", "int64")):
            time[tensor.name] = 1
    run = Run(builder, description, "")
    run.start(inputs)
    outputs = run.finish()
    graph = builder.graph(list(zip(description.output_names, outputs, strict=True)))
    single = isinstance(description.output_structure, Reference)
    try:
        return Model(graph, single=single, time=time, table=table(description, run.shapes))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _shape(description: ModelDescription, number: int, where: str) -> Shape:
    """Return the shape of an input: any batch, and sizes of their own where the file says None."""
    given = description.input_shapes[number]
    name = description.input_names[number]
    if not given:
        raise ValueError(
            f"{where}: the file does not say the shape of the input {name!r}; begin the model with "
            "keras.Input, and save it again"
        )
    sizes: list[int | str] = []
    for axis, size in enumerate(given):
        if axis == 0:
            sizes.append(BATCH)
        elif size is None:
            sizes.append((TIME if axis == 1 else f"size{axis}") + f".{name}" * (number > 0))
        else:
            sizes.append(size)
    return tuple(sizes)


def _dtype(description: ModelDescription, number: int) -> str:
    """Return the dtype of an input. One that is only looked up in embeddings has integers, even
    where the file says that they are floats.
    """
    reference = description.inputs[number]
    dtype = str(description.layer(reference.layer).config.get("dtype", "float32"))
    if dtype not in _FLOATS:
        return dtype
    readers = list(_readers(description, reference, set()))
    return "int32" if readers and set(readers) == {"Embedding"} else "float32"


def _readers(
    description: ModelDescription, reference: Reference, seen: set[tuple[int, Reference]]
) -> Iterator[str]:
    """Yield the kinds of the layers that read a tensor, within inner models, too.

    What has been ``seen`` is not looked at again: a model may be called often.
    """
    key = (id(description), reference)
    if key in seen:
        return
    seen.add(key)
    if reference in description.outputs:
        yield "output"
    for call in description.calls:
        given: list[Any] = list(references([call.args, call.kwargs]))
        if reference not in given:
            continue
        layer = description.layer(call.layer)
        if layer.model is None:
            yield layer.kind
            continue
        for place, one in zip(layer.model.inputs, given, strict=False):
            if one == reference:
                yield from _readers(layer.model, place, seen)

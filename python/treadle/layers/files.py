"""Layers are saved as safetensors, with their configuration as JSON in the metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING

from treadle._storage import formats
from treadle._storage.files import checked_path, replaced
from treadle.layers import build
from treadle.layers.module import Module, known_layers, named_layer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from io import BufferedIOBase

    from treadle._storage.files import Path
    from treadle._storage.formats import Stored
    from treadle._storage.safetensors import Header


FORMAT = "treadle/1"
GRAPH_FORMAT = "treadle/graph/1"  # of a whole model
ABOUT = ("module", "configuration")


def save(module: Module, path: Path) -> None:
    """Write a module to ``path``, as `treadle.save` says. Raises TypeError and OSError."""
    if not isinstance(module, Module):
        raise TypeError(
            f"treadle.save: module is of type {type(module).__name__}, "
            "expected a treadle module or model"
        )
    write(path, "treadle.save", module, build.parameters(module).items())


def write(
    path: Path, function: str, module: Module, parameters: Iterable[tuple[str, Stored]]
) -> None:
    """Write a module's file from an iterator of its parameters, which it need not hold itself."""
    from treadle._storage import safetensors

    layout = {k: v for arrays in build.layout(module).values() for k, v in arrays.items()}
    about = {"module": module._name, "configuration": build.configuration(module)}
    arrays = (item for p in parameters for item in formats.arrays(*p).items())
    with replaced(checked_path(function, path)) as file:
        safetensors.write(file, layout, FORMAT, about, arrays)


def holds_graph(header: Header) -> bool:
    """Say whether a file claims to hold a whole model and no layer."""
    return f'"format": "{GRAPH_FORMAT}"' in header.metadata.get("treadle", "")


def read(file: BufferedIOBase, header: Header) -> Module:
    """Return the module of a file whose header has been read. Raises ValueError."""
    module = described(header)
    build.fill(module, dict(read_parameters(file, header, module)))
    return module


def read_parameters(
    file: BufferedIOBase, header: Header, module: Module
) -> Iterator[tuple[str, Stored]]:
    """Yield the parameters of a module that the header has been compared with. Raises ValueError
    for wrong scales.
    """
    from treadle import _core
    from treadle._storage import safetensors

    for name, arrays in build.layout(module).items():
        value = formats.joined([safetensors.read(file, header, part) for part in arrays])
        if isinstance(value, formats.Int8):
            product = value if len(value.shape) == 2 else formats.matrix(value)
            _core.check_weight(header.where, name, product, "int8")
        yield name, value


def described(header: Header) -> Module:
    """Return the module that a file describes, still without parameters, if its tensors fit."""
    from treadle._storage import safetensors

    if "treadle" not in header.metadata:
        raise ValueError(f"{header.where} {_plain(header)}")
    about = safetensors.read_about(header, FORMAT, ABOUT)
    where, name = header.where, about["module"]
    cls = named_layer(name)
    if cls is None:
        names = ", ".join(known_layers())
        raise ValueError(f"{where}: module is {name!r:.100}, expected one of {names}")
    try:
        module = build.blueprint(cls, about["configuration"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from error
    count = build.count(module).arrays
    # The count is compared before the names are listed, since num_layers may be absurd. Every array
    # may have another one for its scales.
    if not count <= len(header.tensors) <= 2 * count:
        raise ValueError(
            f"{where} has {len(header.tensors)} tensors, expected {count} for {module!r}"
        )
    layout = {k: v for arrays in build.layout(module).values() for k, v in arrays.items()}
    safetensors.check_tensors(header, layout)
    return module


def _plain(header: Header) -> str:
    """Say what a file of tensors is that no configuration comes with, and what reads it."""
    names = header.tensors
    if any(name.endswith(("weight_hh_l0", "weight_hh")) for name in names):
        return (
            "is a plain state dict, which says nothing of the layer it belongs to: "
            "`treadle convert SOURCE TARGET` makes a model of its recurrent layer"
        )
    if any("embeddings." in name or ".layer." in name for name in names):
        return (
            "has the tensors of a transformer and no configuration of treadle: give its directory "
            "to treadle.transformers.AutoModel.from_pretrained"
        )
    return (
        "is a plain state dict, which says nothing of the layer it belongs to: make that layer and "
        "give load_state_dict what safetensors.numpy.load_file reads"
    )

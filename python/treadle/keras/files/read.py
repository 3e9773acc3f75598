"""This module reads a file of Keras into a `description.ModelDescription`, without Keras.

model.keras          Keras 3, or TensorFlow 2.12 and later: a ZIP archive
model.h5             Keras 2, or Keras 3 when asked for it
model.weights.h5     weights only, beside a configuration: the JSON of `model.to_json()`
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeAlias

from treadle._storage.files import check_regular, checked_path
from treadle._storage.json import short
from treadle._storage.kinds import START, kind
from treadle.keras.files.archive import Archive, is_archive
from treadle.keras.files.config import LARGEST_CONFIG, parse_config, read_config
from treadle.keras.files.hdf5 import File, is_hdf5
from treadle.keras.files.weights import with_weights

if TYPE_CHECKING:
    from treadle.keras.files.description import ModelDescription

    Path: TypeAlias = str | os.PathLike[str]

LARGEST_FILE = 1 << 32  # bytes
_WEIGHTS = "model.weights.h5"


def read(
    path: Path, config: Path | dict[str, Any] | None = None, function: str = "treadle.keras.load"
) -> ModelDescription:
    """Return the model in a file of Keras, checked, with its weights.

    ``config`` is for files that have weights only: the JSON that `model.to_json()` gives, as the
    path of a file, as a text or as a dictionary. ``function`` is named in messages.

    Raises ValueError for a file that is damaged, refused or of another kind, TypeError for other
    arguments and OSError where the file cannot be read.
    """
    name = checked_path(function, path)
    where = f"{function}: {name}"
    if os.path.isdir(name):
        _refuse_directory(name, where)
    check_regular(function, name)
    data = _content(name, where)
    if is_archive(data):
        if config is not None:
            raise ValueError(f"{where} has its own configuration, expected no config beside it")
        return _archive(data, where)
    if not is_hdf5(data):
        found = kind(data[:START]) or f"of another kind: it begins with {data[:8]!r}"
        raise ValueError(
            f"{where}: expected a file of Keras (.keras, .h5, .weights.h5), is {found}"
        )
    return _hdf5(data, where, config)


def _content(name: str, where: str) -> bytes:
    with open(name, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > LARGEST_FILE:
            raise ValueError(f"{where} has {size} bytes, expected at most {LARGEST_FILE}")
        data = file.read(size)
    if len(data) != size:
        raise ValueError(f"{where} became shorter while it was read")
    return data


def _archive(data: bytes, where: str) -> ModelDescription:
    archive = Archive(data, where)
    for needed in ("config.json", "metadata.json", _WEIGHTS):
        if needed not in archive.members:
            raise ValueError(
                f"{where} has no {needed}: it is {short(sorted(archive.members))}, expected a file "
                "that model.save of Keras wrote with its weights as HDF5"
            )
    metadata = parse_config(
        archive.read("metadata.json", LARGEST_CONFIG), f"{where}: metadata.json"
    )
    content = parse_config(archive.read("config.json", LARGEST_CONFIG), f"{where}: config.json")
    model = read_config(content, where, _version(metadata.get("keras_version"), where))
    weights = File(archive.read(_WEIGHTS, LARGEST_FILE), f"{where}: {_WEIGHTS}")
    return with_weights(model, weights)


def _hdf5(data: bytes, where: str, config: Path | dict[str, Any] | None) -> ModelDescription:
    file = File(data, where)
    own = file.text("", "model_config")
    version = _version(file.text("", "keras_version") or "", where)
    if own is None and config is None:
        raise ValueError(
            f"{where} has weights only, expected config: the JSON that model.to_json() gives"
        )
    if own is not None and config is not None:
        raise ValueError(f"{where} has its own configuration, expected no config beside it")
    if own is not None:
        content = parse_config(own.encode(), f"{where}: model_config")
    else:
        content = _given(config, where)
        given = content.get("keras_version")
        version = version or _version(given if given is not None else "", where)
    return with_weights(read_config(content, where, version), file)


def _given(config: Any, where: str) -> dict[str, Any]:
    """Return the configuration that a caller gave beside weights."""
    if isinstance(config, dict):
        return config
    if isinstance(config, str) and config.lstrip().startswith("{"):
        return parse_config(config.encode("utf-8", "surrogatepass"), f"{where}: config")
    if not isinstance(config, str | os.PathLike):
        raise TypeError(
            f"{where}: config is of type {type(config).__name__}, expected the JSON of "
            "model.to_json(), its path or a dictionary"
        )
    name = os.fsdecode(config)
    check_regular(where, name)
    return parse_config(_content(name, f"{where}: {name}"), f"{where}: {name}")


def _version(value: Any, where: str) -> str:
    if not isinstance(value, str) or len(value) > 100:
        raise ValueError(f"{where}: its keras_version is {short(value)}, expected a string")
    return value


def _refuse_directory(name: str, where: str) -> None:
    """Raise ValueError for a directory, and say what it is if that is known."""
    if os.path.isfile(os.path.join(name, "saved_model.pb")):
        raise ValueError(
            f"{where} is a SavedModel of TensorFlow, which has functions and no layers. Where the "
            "model is at hand, model.save('model.keras') writes a file that treadle reads"
        )
    raise ValueError(f"{where} is a directory, expected a file that model.save of Keras wrote")

"""This module reads files of a model directory, which may be hostile: only regular files inside
the directory, of bounded size."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from treadle._inputs.checks import shown
from treadle._storage.files import check_regular
from treadle._storage.json import parse_json

if TYPE_CHECKING:
    from treadle._storage.files import Path

# The JSON files read here are configurations and lists of names.
_MAX_JSON = 2**24


def resolve(function: str, directory: Path) -> str:
    """Check that a directory exists, and return its absolute path, which stays right when the
    process changes its working directory and in the pickle of a model.

    Raises TypeError, FileNotFoundError or NotADirectoryError.
    """
    if not isinstance(directory, str | os.PathLike):
        raise TypeError(f"{function}: directory is {shown(directory)}, expected a path")
    path = os.fsdecode(directory)
    if "\0" in path:
        raise ValueError(f"{function}: directory is {shown(path)}, expected no null in it")
    if os.path.isdir(path):
        # Not abspath, which would take "link/.." for the directory that has the link.
        return path if os.path.isabs(path) else os.path.join(os.getcwd(), path)
    if os.path.exists(path):
        raise NotADirectoryError(f"{function}: {path} is a file, expected the directory it is in")
    raise FileNotFoundError(
        f"{function}: there is no directory {path}; treadle reads local files only, and "
        "`hf download NAME --local-dir DIRECTORY` of huggingface_hub fetches a model"
    )


def plain(function: str, where: str, name: object) -> str:
    """Check that an entry is the plain name of a file, not a path that may lead elsewhere."""
    if not isinstance(name, str) or name in ("", ".", "..") or set(name) & set("/\\\0"):
        raise ValueError(
            f"{function}: {where} names the file {shown(name)}, expected a name without a path"
        )
    return name


def wrong(where: str, name: str, value: object, expected: str) -> ValueError:
    """Make the error for a wrong entry of a file, with its value and what it should be."""
    return ValueError(f"{where}: {name} is {shown(value)}, expected {expected}")


def read_flag(where: str, entries: dict[str, Any], name: str, *, default: bool) -> bool:
    """Read an entry that is true or false. Raises ValueError for any other value."""
    value = entries.get(name, default)
    if isinstance(value, bool):
        return value
    raise wrong(where, name, value, "true or false")


def exists(directory: str, name: str) -> bool:
    """Tell whether the directory has an entry of this name."""
    return os.path.exists(os.path.join(directory, name))


def read_json(function: str, directory: str, name: str) -> dict[str, Any]:
    """Read a JSON object. Raises FileNotFoundError, or ValueError if the file holds none."""
    path = os.path.join(directory, name)
    if not os.path.exists(path):
        raise FileNotFoundError(f"{function}: there is no file {path}")
    return parse_json(_read(function, path), f"{function}: {path}")


def read_list(function: str, directory: str, name: str) -> list[Any]:
    """Read a file that holds a JSON list, such as modules.json."""
    path = os.path.join(directory, name)
    text = _read(function, path)
    # The checked parser takes JSON objects only, so the list becomes an entry of one.
    content = parse_json(b'{"list": ' + text + b"}", f"{function}: {path}")
    if set(content) != {"list"} or not isinstance(content["list"], list):
        raise ValueError(f"{function}: {path} is no JSON list, expected one")
    return content["list"]


def _read(function: str, path: str) -> bytes:
    check_regular(function, path)
    with open(path, "rb") as file:
        text = file.read(_MAX_JSON + 1)
    if len(text) > _MAX_JSON:
        raise ValueError(f"{function}: {path} has more than {_MAX_JSON} bytes, expected fewer")
    return text

"""This module finds the model files of packages that people use; none of them is needed.

A file is that of the installed package, or lies anywhere in the folder that the environment
variable TREADLE_MODEL_FILES names, such as one of unpacked wheels.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from importlib import metadata
from pathlib import Path

from .cases import CAPTURED, ModelCase

FOLDER = "TREADLE_MODEL_FILES"


@functools.cache
def _in_folder(folder: str) -> dict[str, Path]:
    return {path.name: path for path in sorted(Path(folder).rglob("*.onnx"))}


@functools.cache
def _in_package(package: str) -> dict[str, Path]:
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        return {}
    return {file.name: Path(str(file.locate())) for file in files if file.name.endswith(".onnx")}


def find(package: str, name: str) -> Path | None:
    """Return the path of a package's file, or None where it is not here."""
    folder = os.environ.get(FOLDER)
    for found in (_in_folder(folder) if folder else {}, _in_package(package)):
        path = found.get(name)
        if path is not None and path.is_file():
            return path
    return None


def absent(case: ModelCase) -> str:
    """Say what a case needs that is not here; an empty text: nothing."""
    needs = "torch" if case.group == CAPTURED else "onnxruntime"
    if importlib.util.find_spec(needs) is None:
        return f"{needs} is not installed, whose answers are the reference"
    missing = [name for name in case.names if find(case.package, name) is None]
    if not missing:
        return ""
    return f"no {missing[0]}: pip install --no-deps {case.package}, or {FOLDER}=folder"

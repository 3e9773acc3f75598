"""The tensors of a model directory: model.safetensors, or the shards that its index lists.

The files are not trusted. Every header is checked against the size of its file when a checkpoint is
opened, and `check` compares names, shapes and dtypes with what the configuration asks for; only
then is memory allocated, a tensor at a time. Weights in float16 and bfloat16 are widened to
float32, which is exact; a bfloat16 matrix that is to stay bfloat16 keeps its bits.
Pickles (pytorch_model.bin) are refused.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from treadle._storage import formats, safetensors
from treadle._storage.files import opened
from treadle.transformers.directory import exists, plain, read_json, wrong

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from io import BufferedIOBase
    from types import TracebackType

    from typing_extensions import Self

    from treadle._inputs.types import Float
    from treadle._storage.safetensors import Entry, Header

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
# A checkpoint has at most so many shards, all open; the largest models in use have fewer than 200.
_MAX_SHARDS = 512
# Two tensors are compared in pieces of so many bytes.
_PIECE = 2**20


class _Place(NamedTuple):
    file: BufferedIOBase
    header: Header
    entry: Entry


class Checkpoint:
    """The tensors of open files by name; a context manager that closes the files."""

    def __init__(self, function: str, directory: str) -> None:
        self._function = function
        self._directory = directory
        self._files = ExitStack()
        try:
            self._places = dict(self._open())
        except BaseException:
            self._files.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._files.close()

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def __len__(self) -> int:
        return len(self._places)

    def require(self, name: str, what: str) -> None:
        """Raise ValueError when there is no such tensor."""
        if name not in self._places:
            raise ValueError(
                f"{self._function}: {self._directory} has no tensor {name} among "
                f"{len(self._places)}, expected {what}"
            )

    def check(self, shapes: Mapping[str, tuple[int, ...]], what: str) -> None:
        """Compare tensors with the shapes that they must have."""
        for name, shape in shapes.items():
            self.require(name, what)
            safetensors.check_tensor(self._places[name].header, name, shape)

    def read(self, name: str) -> Float:
        """Read a tensor that `check` has checked, as float32."""
        array = np.empty(self._places[name].entry.shape, np.float32)
        self.read_into(name, array)
        return array

    def read_into(self, name: str, out: Any) -> None:
        """Read a tensor that `check` has checked into a parameter, in the parameter's dtype."""
        file, header, _ = self._places[name]
        if formats.dtype_of(out) == "float32":
            safetensors.read(file, header, name, out)
        else:
            formats.encode(safetensors.read(file, header, name), formats.dtype_of(out), out)

    def same(self, first: str, second: str) -> bool:
        """Tell whether two tensors of the same shape and dtype have the same bytes."""
        places = [self._places[name] for name in (first, second)]
        sizes = [place.entry.end - place.entry.begin for place in places]
        if sizes[0] != sizes[1] or places[0].entry.dtype != places[1].entry.dtype:
            return False
        for start in range(0, sizes[0], _PIECE):
            pieces = []
            for file, header, entry in places:
                file.seek(header.payload + entry.begin + start)
                pieces.append(file.read(min(_PIECE, sizes[0] - start)))
            if pieces[0] != pieces[1]:
                return False
        return True

    def _open(self) -> Iterator[tuple[str, _Place]]:
        if exists(self._directory, SINGLE):
            file, header = self._file(SINGLE)
            for name, entry in header.tensors.items():
                yield name, _Place(file, header, entry)
            return
        if not exists(self._directory, INDEX):
            raise self._no_weights()
        where = os.path.join(self._directory, INDEX)
        index = read_json(self._function, self._directory, INDEX).get("weight_map")
        if not isinstance(index, dict):
            raise wrong(f"{self._function}: {where}", "weight_map", index, "names with files")
        shards: dict[str, tuple[BufferedIOBase, Header]] = {}
        for name, shard in index.items():
            shard = plain(self._function, where, shard)
            if shard not in shards:
                if len(shards) == _MAX_SHARDS:
                    raise ValueError(
                        f"{self._function}: {where} lists more than {_MAX_SHARDS} files"
                    )
                shards[shard] = self._file(shard)
            file, header = shards[shard]
            if name not in header.tensors:
                raise ValueError(
                    f"{header.where} has no tensor {name!r:.100}, expected it there after {where}"
                )
            yield name, _Place(file, header, header.tensors[name])

    def _file(self, name: str) -> tuple[BufferedIOBase, Header]:
        path = os.path.join(self._directory, name)
        if not os.path.exists(path):
            raise FileNotFoundError(f"{self._function}: there is no file {path}")
        return self._files.enter_context(opened(self._function, path))

    def _no_weights(self) -> Exception:
        pickle = next((name for name in _PICKLES if exists(self._directory, name)), None)
        if pickle is None:
            return FileNotFoundError(
                f"{self._function}: {self._directory} has neither {SINGLE} nor {INDEX}"
            )
        return ValueError(
            f"{self._function}: {self._directory} has its weights in the pickle {pickle} only, "
            f"expected {SINGLE}. treadle never unpickles: that would run code from the file. Where "
            "you trust it, convert it with Transformers: AutoModel.from_pretrained(directory)"
            ".save_pretrained(directory)"
        )

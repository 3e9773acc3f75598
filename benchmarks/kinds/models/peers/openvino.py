"""OpenVINO reads a file and compiles it for the shapes of the case, in float32.

Inputs are shared memory that is set once; states are copied into it behind each call, which is the
only way that its infer requests have. The variants: shapes fixed, which is faster, and as the file
has them, where fixed ones are refused.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino

from ....core.dtypes import Array
from ....core.kind import Prepared, Unsupported
from ....core.peers.openvino import settings
from ..cases import File, ModelCase
from ..reference import ModelInputs, without_states
from . import check_has_files


def variants(case: ModelCase, threads: int) -> tuple[str, ...]:
    """Return the only way."""
    return ("infer request",)


def release() -> None:
    """Do nothing: nothing outlives what `prepare` returned."""


class _Request:
    def __init__(self, path: str, file: File, feed: dict[str, Array], threads: int) -> None:
        self.file = file
        self.arrays = {name: np.array(value) for name, value in feed.items()}
        core = openvino.Core()
        try:
            compiled = self._compiled(core, path, threads, True)
        except RuntimeError:
            try:
                compiled = self._compiled(core, path, threads, False)
            except RuntimeError as error:
                raise Unsupported(str(error).splitlines()[0]) from None
        self.request = compiled.create_infer_request()
        for name, value in self.arrays.items():
            self.request.set_tensor(name, openvino.Tensor(value, shared_memory=True))
        self.names = [port.get_any_name() for port in compiled.outputs]
        self.places = [(self.arrays[name], output) for name, output in file.carried]

    def _compiled(self, core: Any, path: str, threads: int, fixed: bool) -> Any:
        model = core.read_model(path)
        if fixed:
            model.reshape({name: list(value.shape) for name, value in self.arrays.items()})
        return core.compile_model(model, "CPU", settings(threads))

    def __call__(self) -> None:
        self.request.infer(share_outputs=True)
        for array, output in self.places:
            np.copyto(array, self.request.get_tensor(output).data)

    def outputs(self) -> list[Array]:
        found = {name: np.array(self.request.get_tensor(name).data) for name in self.names}
        return without_states(self.file, found)


def prepare(
    case: ModelCase, inputs: ModelInputs, threads: int, variant: str
) -> Prepared[list[Array]]:
    """Compile each file."""
    check_has_files(case)
    parts = [
        _Request(path, file, feed, threads)
        for file, path, feed in zip(case.files, inputs.paths, inputs.feeds, strict=True)
    ]

    def run() -> None:
        for part in parts:
            part()

    run_one = parts[0] if len(parts) == 1 else run
    return Prepared(run_one, lambda _: [value for part in parts for value in part.outputs()])

"""Embedding: the rows of a table by their numbers."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

from treadle import _core
from treadle._inputs import checks
from treadle._inputs.arrays import to_int64
from treadle._public import published
from treadle.layers.configuration import Entry, Float32, Integer
from treadle.layers.module import Module, layer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from treadle._inputs.types import ArrayLike, Float
    from treadle.layers.build import Shapes
    from treadle.layers.configuration import Entries


class _Index(Entry):
    """A row of the table, counted from its end where it is negative, or None."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(optional=True)

    def _checked(self, function: str, name: str, value: Any) -> int:
        return checks.integer(function, name, value, -checks.MAX_SIZE)


@published("treadle")
@layer
class Embedding(Module):
    """``torch.nn.Embedding``: y[..., :] = weight[ids[...], :], a row of the table for each id.

    ``padding_idx`` is the row that stands for padding; it begins as zeros, and after that it is a
    row like the others, as in PyTorch's inference. The table has float32 numbers in every dtype,
    since it is in no product: ``to("int8")`` of a `treadle.Sequential` leaves it as it is.

    Shapes: ids [...], weight [num_embeddings, embedding_dim], y [..., embedding_dim]. ``seed``
    makes the initial parameters repeatable: they are uniform between -sqrt(3) and sqrt(3), which
    has the variance of PyTorch's normal distribution, 1.

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong kind or value.
    MemoryError
        For sizes beyond the machine.

    Examples
    --------
    >>> import treadle
    >>> words = treadle.Embedding(1000, 32, padding_idx=0, seed=0)
    >>> words([[5, 7, 0]]).shape
    (1, 3, 32)
    """

    _entries: ClassVar[Entries] = {
        "num_embeddings": Integer(),
        "embedding_dim": Integer(),
        "padding_idx": _Index(),
        "dtype": Float32(),
    }

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        dtype: Any = "float32",
        seed: Any = None,
    ) -> None:
        self._initialize(locals())
        padding = self._configuration["padding_idx"]
        if padding is not None:
            weight = self._packed.parameters["weight"].copy()
            weight[padding] = 0
            self.load_state_dict({"weight": weight})

    def _check_configuration(self) -> None:
        own = self._configuration
        padding, rows = own["padding_idx"], own["num_embeddings"]
        if padding is not None:
            if not -rows <= padding < rows:
                raise ValueError(
                    f"{self._function}: padding_idx is {padding}, "
                    f"expected {-rows} to {rows - 1} for num_embeddings = {rows}"
                )
            own["padding_idx"] = padding % rows  # as in PyTorch
        super()._check_configuration()

    def _shapes(self) -> Shapes:
        own = self._configuration
        return {"weight": (own["num_embeddings"], own["embedding_dim"])}

    def _initial(self, name: str, shape: tuple[int, ...]) -> tuple[float, float]:
        return 0.0, 3**0.5

    def _pack(self, parameters: Mapping[str, Float]) -> None:
        return None  # the layer has no product

    def __call__(self, ids: ArrayLike) -> Float:
        """Return the rows of the ids, integers [...], as a new array [..., embedding_dim].

        Raises ValueError for an id that is not in 0..num_embeddings - 1, TypeError for ids that are
        no integers.
        """
        numbers = to_int64(self._function, "ids", ids)
        weight = self._packed.parameters["weight"]
        flat = numbers.reshape(prod(numbers.shape))
        rows = _core.embedding_sum(self._function, [weight], [flat])
        return rows.reshape(*numbers.shape, weight.shape[1])

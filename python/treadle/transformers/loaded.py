"""A model that is read from a directory: what all models of the room have in common."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

    from treadle._storage.files import Path
    from treadle.transformers.config import Config


class LoadedModel:
    """A model that does not change after it is loaded; any number of threads may call it."""

    config: Config
    _directory: str
    _dtype: str

    def __init__(self) -> None:
        raise TypeError(
            f"{self._name()}: made by {type(self).__name__}.from_pretrained(directory) only"
        )

    @classmethod
    def _name(cls) -> str:
        return f"treadle.transformers.{cls.__name__}"

    @property
    def _most_tokens(self) -> int:
        """The longest text that the model has positions for."""
        raise NotImplementedError

    @classmethod
    def from_pretrained(cls, directory: Path, *, dtype: Any = "float32") -> Self:
        """Load a model from a local directory."""
        raise NotImplementedError

    def __repr__(self) -> str:
        c = self.config
        return (
            f"{type(self).__name__}({c.model_type}, {c.num_hidden_layers} layers, "
            f"hidden_size={c.hidden_size}, vocab_size={c.vocab_size})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the directory alone, so that worker processes load the model from it."""
        return partial(type(self).from_pretrained, dtype=self._dtype), (self._directory,)

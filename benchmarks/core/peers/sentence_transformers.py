"""sentence-transformers runs cases that go from sentences to embeddings only."""

from __future__ import annotations


def configure(threads: int) -> None:
    """Set the size of PyTorch's pool, which the default back end uses."""
    from . import torch

    torch.configure(threads)


def version() -> str:
    """Return the version of the library."""
    import sentence_transformers

    return str(sentence_transformers.__version__)

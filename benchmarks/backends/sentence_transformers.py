"""sentence-transformers: from sentences to embeddings only."""

from __future__ import annotations


def configure(threads: int) -> None:
    """PyTorch's pool, which its default back end uses."""
    from . import torch

    torch.configure(threads)


def version() -> str:
    """The library's version."""
    import sentence_transformers

    return str(sentence_transformers.__version__)

"""JAX runs on the CPU, with a pool of the wanted size and synchronous dispatch.

Synchronous dispatch takes 10 us off a call that is waited for anyway. XLA's flags for vector width,
XNNPACK, oneDNN and fast math made nothing faster (0.10).
"""

from __future__ import annotations

import os


def configure(threads: int) -> None:
    """Set XLA's flags, before the import. Its pool also follows the CPUs the process may use."""
    flags = os.environ.get("XLA_FLAGS", "")
    eigen = "true" if threads > 1 else "false"
    os.environ["XLA_FLAGS"] = (
        f"{flags} --xla_cpu_multi_thread_eigen={eigen} intra_op_parallelism_threads={threads}"
    ).strip()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")


def version() -> str:
    """Return JAX's version."""
    import jax

    jax.config.update("jax_cpu_enable_async_dispatch", False)
    return str(jax.__version__)


def release() -> None:
    """Drop compiled programs, which would stay in JAX's cache."""
    import jax

    jax.clear_caches()

"""star-bench: an evaluation harness for text-to-image checkpoints. What may be imported stands in `star_bench.api`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from star_bench.version import __version__

if TYPE_CHECKING:
    from star_bench.api import compare, evaluate, list_models, list_suites, load_run, runs, score

__all__ = ["__version__", "compare", "evaluate", "list_models", "list_suites", "load_run", "runs", "score"]


def __getattr__(name: str) -> Any:
    """The functions of `star_bench.api`, loaded when one is asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'star_bench' has no attribute {name!r}")
    from star_bench import api

    return getattr(api, name)

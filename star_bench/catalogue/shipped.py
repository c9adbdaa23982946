"""Where the files that travel with the package lie: in a checkout beside it, in a wheel inside it."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parents[1]
CHECKOUT = PACKAGE.parent


def shipped(in_checkout: str, in_wheel: str) -> Path:
    """The path of a shipped file or folder; the checkout's wins where both are there."""
    beside = CHECKOUT / in_checkout
    return beside if (CHECKOUT / "pyproject.toml").is_file() and beside.exists() else PACKAGE / "data" / in_wheel


CHECKPOINTS_FILE = shipped("checkpoints.yaml", "checkpoints.yaml")
PROTOCOLS_FOLDER = shipped("benchmarks/protocols", "protocols")
SUITES_FOLDER = shipped("benchmarks/suites", "suites")
MINIATURE_FOLDER = PACKAGE / "miniature" / "weights"

"""The program as its user starts it: real processes on the miniature, killed, stopped and compared."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SMALL = ("--model", "miniature", "--suite", "ocr-miniature", "--limit", "4", "--steps", "4", "--batch-size", "2")
"""A run of a few seconds."""


def environment(**more: str) -> dict[str, str]:
    """One thread, no hub."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **more}


def start(folder: Path, *words: str, **more: str) -> subprocess.Popen[str]:
    """`star-bench WORDS` in a folder; still running when this returns."""
    return subprocess.Popen(
        [sys.executable, "-m", "star_bench", *words],
        cwd=folder,
        env=environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def call_and_imports(folder: Path, *words: str, **more: str) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    """`star-bench WORDS` in a folder, to its end, and the modules that it imported."""
    done = call(folder, *words, **more, PYTHONPROFILEIMPORTTIME="1")
    lines = done.stderr.splitlines(keepends=True)
    done.stderr = "".join(line for line in lines if not line.startswith("import time:"))
    return done, {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}


def call(folder: Path, *words: str, timeout: float = 280, **more: str) -> subprocess.CompletedProcess[str]:
    """`star-bench WORDS` in a folder, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "star_bench", *words],
        cwd=folder,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )

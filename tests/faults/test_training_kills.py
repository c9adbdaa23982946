"""A training that is killed without warning, again and again, learns what one that was not learns."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path

import pytest
from figures import Row, count, publish
from processes import call, start
from small_training import TINY, metrics

from star_bench.files.digests import sha256_of

SEED = 5
EPOCHS = count(quick=3, full=5)
IN_A_CHAIN = 5
WORDS = (
    *("train", "--recipe", "star-geneval-mini", "--device", "cpu", "--out", "out", "--reports", "reports"),
    *(word for change in (*TINY, f"epochs={EPOCHS}") for word in ("--set", change)),
)


def _finish(folder: Path) -> float:
    began = time.monotonic()  # noqa: TID251 - says when to kill; nothing is asserted of it
    done = call(folder, *WORDS)
    assert done.returncode == 0, done.stderr
    return time.monotonic() - began  # noqa: TID251 - as above


def _kill(folder: Path, rng: random.Random, seconds: float, *, from_start: bool) -> bool:
    """Whether the training was killed: at any moment of its life, or from the next epoch's end on; False where it came
    to its end before."""
    lines = folder / "out" / "metrics.jsonl"
    with start(folder, *WORDS) as child:
        moment = rng.uniform(0, seconds)
        if not from_start:
            before = lines.stat().st_size if lines.exists() else 0
            while child.poll() is None and not (lines.exists() and lines.stat().st_size > before):
                time.sleep(0.005)
            moment = rng.uniform(0, 2.0)
        try:
            child.wait(moment)
        except subprocess.TimeoutExpired:
            child.kill()
        child.communicate()
        return child.returncode == -9


def _weights(folder: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in sorted((folder / "out").glob("*.safetensors"))}


@pytest.mark.timeout(3600)
def test_a_killed_training_learns_the_same(tmp_path: Path) -> None:
    untouched = tmp_path / "undisturbed"
    untouched.mkdir()
    seconds = _finish(untouched)
    points, rng, failures = count(quick=1, full=20), random.Random(SEED), []
    tried, held, chain = 0, 0, 0
    while tried < points:
        folder = tmp_path / str(chain)
        folder.mkdir()
        chain += 1
        killed = 0
        while killed < min(IN_A_CHAIN, points - tried):
            if not _kill(folder, rng, seconds, from_start=killed % 2 == 1):
                break
            killed += 1
        _finish(folder)
        wrong = [f"{path} is left" for path in folder.rglob("*.partial")]
        wrong += ["metrics.jsonl differs"] if metrics(folder / "out") != metrics(untouched / "out") else []
        wrong += ["the LoRA differs"] if not _weights(folder) or _weights(folder) != _weights(untouched) else []
        tried += killed
        held += 0 if wrong else killed
        failures += [f"seed {SEED}, chain {chain}: {one}" for one in wrong]
    publish(
        Row(
            area="training",
            fault="kill -9 at random points of a training",
            requirement="the same metrics, but for times, and the same LoRA byte for byte as of an undisturbed training",
            tried=tried,
            held=held,
            note=f"star-geneval-mini shortened to {EPOCHS} epochs on a CPU, up to {IN_A_CHAIN} kills of one training",
        ),
        failures,
    )

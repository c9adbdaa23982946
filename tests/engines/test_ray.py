"""The Ray engine: the same bytes as the local one, with any number of workers, also when one is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from star_bench.errors import Incomplete, Refused, UsageError
from star_bench.runs.engines.base import Settings, Workers

pytest.importorskip("ray")

from star_bench.runs.engines.ray import AHEAD, RayEngine

DIFFERENT = {"log.jsonl", "manifest.json", "lock"}
"""They say when and where it was run."""


def command(folder: Path, *words: str) -> list[str]:
    """A run of 32 pictures in 16 batches."""
    run = [
        sys.executable,
        "-m",
        "star_bench",
        "run",
        "--model",
        "miniature",
        "--suite",
        "ocr-miniature",
        "--limit",
        "16",
    ]
    sizes = ["--steps", "4", "--batch-size", "2", "--device", "cpu"]
    return [*run, *sizes, "--runs", str(folder / "runs"), "--reports", str(folder / "reports"), *words]


def call(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command(folder, *words), capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def files(folder: Path) -> dict[str, bytes]:
    """All that must not depend on the engine, runs and reports."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name not in DIFFERENT]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("local")
    call(folder)
    return files(folder)


@pytest.mark.timeout(1200)
def test_two_workers_of_which_one_is_killed_give_the_same_bytes(tmp_path: Path, local: dict[str, bytes]) -> None:
    words = command(tmp_path, "--engine", "ray", "--workers", "2")
    log = tmp_path / "said"
    with log.open("w") as said:  # a pipe that nobody reads while a worker is looked for would be full one day
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=said)
    killed = _kill_a_worker(process, tmp_path)
    assert process.wait() == 0, log.read_text()[-3000:]
    log.unlink()
    assert killed, "the run ended before a worker could be killed"
    assert files(tmp_path) == local


def _kill_a_worker(process: subprocess.Popen[str], folder: Path) -> bool:
    """Kills one that is at work, once the first pictures are stored and not all of them."""
    while process.poll() is None:
        if 2 <= len(list(folder.glob("runs/*/*/*/images/*/*.png"))) < 24:
            with suppress(psutil.NoSuchProcess):  # one that ends while it is looked at
                for child in psutil.Process(process.pid).children(recursive=True):
                    if " ".join(child.cmdline()).startswith("ray::RayWorker.work"):
                        child.kill()
                        return True
        time.sleep(0.02)
    return False


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 7])
def test_any_number_of_workers_gives_the_same_bytes(tmp_path: Path, local: dict[str, bytes], workers: int) -> None:
    call(tmp_path, "--engine", "ray", "--workers", str(workers), "--scoring-workers", "2")
    assert files(tmp_path) == local


@pytest.fixture(scope="module")
def two() -> Iterator[RayEngine]:
    """An engine of two workers that has started."""
    with RayEngine(Settings(generation=Workers(2), scoring=Workers(2))) as engine:
        yield engine


def test_results_come_in_order_and_batches_are_pulled_as_they_are_needed(two: RayEngine) -> None:
    pulled = []

    def batches() -> Iterator[int]:
        for number in range(20):
            pulled.append(number)
            yield number

    def slow_first() -> Callable[[int], int]:
        def work(number: int) -> int:
            time.sleep(0.5 if number == 0 else 0)
            return number * number

        return work

    results = two.generate(slow_first, batches())
    assert next(results) == 0
    assert len(pulled) <= 2 * AHEAD + 1, "more was pulled than the workers have room for"
    assert [0, *results] == [number * number for number in range(20)]


def test_an_error_of_a_worker_is_the_same_error_here(two: RayEngine) -> None:
    def broken() -> Callable[[int], int]:
        raise Refused("canary 'cup' got 0", "reinstall")

    with pytest.raises(Refused, match=r"^canary 'cup' got 0: reinstall\.$"):
        list(two.score(broken, [1]))


def test_a_batch_that_no_worker_survives_ends_the_run_with_a_sentence(two: RayEngine) -> None:
    def deadly() -> Callable[[int], int]:
        return lambda number: os._exit(1) if number == 1 else number

    with pytest.raises(Incomplete, match="a batch ended its worker 4 times"):
        list(two.generate(deadly, [0, 1, 2]))


def test_workers_that_have_no_room_are_refused(two: RayEngine) -> None:
    crowded = RayEngine(Settings(device="cuda", generation=Workers(2, gpus=1.0)))
    with pytest.raises(UsageError, match="all workers together need 2 GPUs, and Ray has 0"):
        list(crowded.generate(lambda: print, [1]))


def test_a_cluster_that_is_not_there_is_said_at_once() -> None:
    with (
        pytest.raises(UsageError, match=r"there is no Ray cluster at ray://127.0.0.1:1"),
        RayEngine(Settings(address="ray://127.0.0.1:1")),
    ):
        pass

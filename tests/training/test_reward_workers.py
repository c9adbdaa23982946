"""Rewards judged by workers elsewhere: a training must not notice."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import psutil
import pytest
from small_training import metrics, tiny

from star_bench.errors import UsageError
from star_bench.runs.engines.base import Settings, Workers
from star_bench.runs.progress import Silent
from star_bench.training.trainer import Trainer

pytest.importorskip("ray")

from star_bench.runs.engines.ray import RayEngine

FILES = ("adapter_model.safetensors", "recipe.yaml")


def kill_a_worker_at_work(killed: list[int], ended: threading.Event) -> None:
    """The first that is seen judging."""
    while not ended.is_set():
        for child in psutil.Process().children(recursive=True):
            try:
                if " ".join(child.cmdline()).startswith("ray::RayWorker.work"):
                    child.kill()
                    killed.append(child.pid)
                    return
            except psutil.NoSuchProcess:
                continue
        time.sleep(0.01)


def test_two_workers_of_which_one_is_killed_teach_the_same(tmp_path: Path) -> None:
    recipe = tiny("epochs=2")
    here, there = tmp_path / "here", tmp_path / "there"
    Trainer(recipe, here, device="cpu", bar=Silent()).train()
    killed: list[int] = []
    ended = threading.Event()
    with RayEngine(Settings(scoring=Workers(2))) as engine:
        trainer = Trainer(recipe, there, device="cpu", bar=Silent(), engine=engine)
        assert trainer.rewards.ahead == 2
        killer = threading.Thread(target=kill_a_worker_at_work, args=(killed, ended))
        killer.start()
        try:
            trainer.train()
        finally:
            ended.set()
            killer.join()
    assert killed, "the training ended before a worker could be killed"
    assert metrics(there) == metrics(here)
    for name in FILES:
        assert (there / name).read_bytes() == (here / name).read_bytes(), name


def test_several_processes_must_share_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accelerate.Accelerator.num_processes", 2)
    engine = RayEngine(Settings())  # not started: this is refused before it is asked for anything
    with pytest.raises(UsageError, match="would start workers of its own"):
        Trainer(tiny(), tmp_path, device="cpu", bar=Silent(), engine=engine)

"""Two processes, each with half of the prompts, learn what one does; with a LoRA and with all weights sharded."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_training import TINY, metrics, train

ROOT = Path(__file__).parents[2]
ALL_WEIGHTS = ("lora=null", "optimiser.learning_rate=1e-5")

pytestmark = pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="torch was built without gloo")


def train_in_two(folder: Path, *changes: str) -> None:
    """As `train`, by two processes that torch starts; accelerate's own launcher starts one on a CPU, whatever it is told."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launch = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", port, "-m", "star_bench"]
    settings = [word for change in (*TINY, *changes) for word in ("--set", change)]
    words = ["train", "--recipe", "star-geneval-mini", *settings, "--out", str(folder), "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, *launch, *words, "--reports", str(folder / "reports")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "card.json").read_text())["processes"] == 2


@pytest.mark.parametrize("trained", [(), ALL_WEIGHTS], ids=["lora", "all weights"])
def test_two_processes_learn_what_one_does(tmp_path: Path, trained: tuple[str, ...]) -> None:
    changes = ("rollout.prompts=6", "epochs=2", "masks.every=1", "masks.prompts=[a photo of a cup]", *trained)
    alone = train(tmp_path / "one", *changes)
    train_in_two(tmp_path / "two", *changes)
    both = metrics(tmp_path / "two")
    assert [row["epoch"] for row in both] == [row["epoch"] for row in alone]
    assert all(row["kept"] > 0 for row in alone[1:])
    for one, two in zip(alone, both, strict=True):
        for key, value in one.items():
            assert two[key] == pytest.approx(value, abs=1e-4), key
    first = load_file(tmp_path / "one" / "state" / "000002" / "tensors.safetensors")
    second = load_file(tmp_path / "two" / "state" / "000002" / "tensors.safetensors")
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], atol=1e-4, rtol=0)

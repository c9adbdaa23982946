"""A judge that is not what it was: its canaries refuse before anything is made or scored."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from engines import run_here
from figures import Row, count, publish
from safetensors.torch import load_file, save_file

from star_bench.catalogue.shipped import MINIATURE_FOLDER, SUITES_FOLDER
from star_bench.errors import Refused


def _shuffled_detector(folder: Path, seed: int) -> Path:
    """The card of a copy of the miniature GenEval suite whose detector has its own weights in another order."""
    detector, suite = folder / "detector", folder / "suite"
    shutil.copytree(MINIATURE_FOLDER / "detector", detector)
    path = detector / "model.safetensors"
    random = torch.Generator().manual_seed(seed)
    shuffled = {
        name: tensor.flatten()[torch.randperm(tensor.numel(), generator=random)].reshape(tensor.shape).contiguous()
        for name, tensor in load_file(path).items()
    }
    save_file(shuffled, path, metadata={"format": "pt"})
    shutil.copytree(SUITES_FOLDER / "geneval-miniature", suite)
    card = yaml.safe_load((suite / "card.yaml").read_text())
    card["judges"]["detector"]["weights"] = {"path": str(detector), "what": "a detector", "source": "a test"}
    (suite / "card.yaml").write_text(yaml.safe_dump(card))
    return suite / "card.yaml"


@pytest.mark.timeout(1200)
def test_a_shuffled_detector_is_refused_by_its_canaries(tmp_path: Path) -> None:
    tried, held = count(quick=1, full=20), 0
    failures: list[str] = []
    for seed in range(tried):
        folder = tmp_path / str(seed)
        card = _shuffled_detector(folder, seed)
        try:
            run_here(folder / "runs", suites=(str(card),))
            said = "nothing"
        except Refused as error:
            said = str(error)
        made = [
            path.name for path in (folder / "runs").rglob("*") if path.suffix == ".png" or path.name == "results.json"
        ]
        scored = any(path.stat().st_size for path in (folder / "runs").rglob("scores.jsonl"))
        if "nothing was scored" in said and "canary 'canary-" in said and not made and not scored:
            held += 1
        else:
            failures.append(f"seed {seed}: it says {said!r}; {made}")
    publish(
        Row(
            area="runs",
            fault="a broken detector: its weights shuffled",
            requirement="the canaries refuse (exit 4) before anything is generated or scored",
            tried=tried,
            held=held,
            note="each tensor's values in another order, a seed each",
        ),
        failures,
    )

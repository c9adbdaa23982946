"""What a training leaves can be registered under a name, and resolved by it."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_training import train

from star_bench.catalogue import checkpoints
from star_bench.catalogue.shipped import CHECKPOINTS_FILE
from star_bench.errors import UsageError
from star_bench.training.output import register


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    train(folder, "epochs=1", "evaluation.steps=3")
    return folder


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    file = tmp_path / "checkpoints.yaml"
    file.write_bytes(CHECKPOINTS_FILE.read_bytes())
    return file


def test_registered_it_is_one_more_entry_and_the_rest_stays(trained: Path, listed: Path) -> None:
    before = listed.read_text()
    register(trained, "mine", listed)
    assert listed.read_text().startswith(before.rstrip("\n"))
    entry = checkpoints.entries(listed)["mine"]
    assert entry.base == "miniature"
    assert entry.lora.path == str(trained)
    assert entry.generation.guidance_scale == 1.0
    assert entry.generation.steps == 3
    assert "star-geneval-mini" in entry.note


def test_a_policy_of_few_steps_is_run_with_few(trained: Path) -> None:
    asked = checkpoints.resolve(str(trained)).generation
    assert (asked.steps, asked.guidance_scale) == (3, 1.0)
    assert asked.height == 64  # its base's


@pytest.mark.parametrize(
    ("name", "said"), [("miniature", "there is a 'miniature' already"), ("../x", "can't be a checkpoint's name")]
)
def test_names_that_cannot_be_taken(trained: Path, listed: Path, name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        register(trained, name, listed)
    assert listed.read_bytes() == CHECKPOINTS_FILE.read_bytes()


def test_a_folder_without_a_finished_training(tmp_path: Path, listed: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no card\.json"):
        register(tmp_path, "mine", listed)

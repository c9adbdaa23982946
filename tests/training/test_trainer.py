"""The training loop on the miniature: what it leaves, what it resumes, what it refuses."""

from __future__ import annotations

import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_training import TINY, metrics, tiny, train

from star_bench.assets import model_files
from star_bench.catalogue import checkpoints
from star_bench.errors import Locked, MissingWeights, Refused, UsageError
from star_bench.generation.pipeline import load
from star_bench.runs.environment import environment, packages
from star_bench.runs.progress import Silent
from star_bench.runs.store import locked
from star_bench.training.guards import Diverged
from star_bench.training.trainer import Trainer

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train") / "out"
    train(folder)
    return folder


def command(folder: Path, *changes: str) -> list[str]:
    settings = [word for change in (*TINY, *changes) for word in ("--set", change)]
    words = ["--recipe", "star-geneval-mini", *settings, "--out", str(folder), "--device", "cpu"]
    return [sys.executable, "-m", "star_bench", "train", *words, "--reports", str(folder / "reports")]


class Counted(Silent):
    """How far each bar of that title came, and of how many."""

    def __init__(self, title: str) -> None:
        self.title, self.bars = title, [[0, 0]]
        self.counts = False

    def start(self, title: str, total: int, done: int) -> None:
        self.counts = title == self.title
        if self.counts:
            self.bars.append([done, total])

    def advance(self, count: int) -> None:
        if self.counts:
            self.bars[-1][0] += count


def test_the_bar_counts_epochs_that_are_done_beside_evaluations_too(tmp_path: Path) -> None:
    settings = [f"evaluation.{each}" for each in ("suites=[geneval-miniature]", "every=2", "limit=2", "samples=1")]
    bar = Counted("training")
    Trainer(tiny(*settings, "evaluation.steps=2"), tmp_path, device="cpu", bar=bar).train()
    assert bar.bars[-1] == [3, 3]
    assert all(done <= total for done, total in bar.bars)


def test_first_update_is_exactly_on_policy(undisturbed: Path) -> None:
    """The rollout's forwards and the update's have one shape, so the ratio is 1 to the last bit."""
    rows = metrics(undisturbed)[1:]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    taught = [row for row in rows if row["kept"]]
    assert taught
    assert all(row["ratio/first_log"] == 0 for row in taught)
    assert any(row["ratio/last_log"] > 0 for row in taught)


def test_leaves_a_lora_that_run_can_load(undisturbed: Path) -> None:
    found = checkpoints.resolve(str(undisturbed))
    assert found.base == "miniature"
    assert found.generation.guidance_scale == tiny().rollout.guidance_scale
    assert found.generation.height == 64
    pipe: Any = load(model_files.locate(found), dtype="float32", device="cpu")
    assert pipe.transformer.peft_config


def test_card_says_what_was_trained_on_what(undisturbed: Path) -> None:
    card = json.loads((undisturbed / "card.json").read_text())
    assert (card["recipe"], card["seed"], card["epochs"]) == ("star-geneval-mini", 0, 3)
    assert card["base"]["name"] == "miniature"
    assert card["rewards"][0]["suite"] == "geneval-miniature"
    assert card["rewards"][0]["training_file"]["digest"]
    assert card["settings"]["rollout"]["group_size"] == 4
    assert card["lora_sha256"]


def test_the_same_command_again_trains_nothing_more(undisturbed: Path) -> None:
    before = (undisturbed / "adapter_model.safetensors").read_bytes()
    lines = metrics(undisturbed)
    assert train(undisturbed) == lines
    assert (undisturbed / "adapter_model.safetensors").read_bytes() == before


def test_a_stopped_training_goes_on_as_if_it_had_not(undisturbed: Path, tmp_path: Path) -> None:
    """Two epochs of metrics on disk, a state after the first: what came after the state is done again."""
    train(tmp_path, "epochs=2")
    shutil.rmtree(tmp_path / "state" / "000002")
    assert train(tmp_path) == metrics(undisturbed)
    newest = load_file(undisturbed / "state" / "000003" / "tensors.safetensors")
    again = load_file(tmp_path / "state" / "000003" / "tensors.safetensors")
    assert newest.keys() == again.keys()
    assert all(torch.equal(newest[name], again[name]) for name in newest)


def test_a_damaged_newest_state_falls_back_to_the_one_before(undisturbed: Path, tmp_path: Path) -> None:
    shutil.copytree(undisturbed, tmp_path, dirs_exist_ok=True)
    tensors = tmp_path / "state" / "000003" / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-100])
    assert train(tmp_path) == metrics(undisturbed)


def test_other_settings_in_the_same_folder_are_refused(undisturbed: Path) -> None:
    with pytest.raises(Refused, match="begun with other settings"):
        Trainer(tiny("optimiser.learning_rate=0.5"), undisturbed, device="cpu", bar=Silent()).train()


def test_what_differs_is_named_and_what_only_costs_is_recorded(undisturbed: Path, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"\(optimiser.learning_rate was 0.001 and is now 0.5\)"):
        Trainer(tiny("optimiser.learning_rate=0.5"), undisturbed, device="cpu", bar=Silent()).train()
    train(tmp_path, "epochs=1")
    costs = ("rollout.batch_size=4", "compute.gradient_checkpointing=true")
    card = Trainer(tiny("epochs=2", *costs), tmp_path, device="cpu", bar=Silent()).train()
    said = [(one["from_epoch"], one["rollout.batch_size"]) for one in card["sessions"]]
    assert said == [(1, 3), (2, 4)]
    assert [one["compute"]["gradient_checkpointing"] for one in card["sessions"]] == [False, True]
    here = {**environment("cpu"), "packages": packages()}
    assert [one["environment"] for one in card["sessions"]] == [here, here]


def test_fewer_epochs_than_are_done_are_refused_and_nothing_is_lost(undisturbed: Path) -> None:
    before = metrics(undisturbed)
    with pytest.raises(UsageError, match=r"3 epochs are done in .*, and 2 are asked for"):
        train(undisturbed, "epochs=2")
    assert metrics(undisturbed) == before


def test_a_state_of_an_older_version_is_refused(undisturbed: Path, tmp_path: Path) -> None:
    shutil.copytree(undisturbed, tmp_path, dirs_exist_ok=True)
    for place in (tmp_path / "state").iterdir():
        said = json.loads((place / "state.json").read_bytes())
        del said["numbers"]["sessions"]
        (place / "state.json").write_text(json.dumps(said))
    with pytest.raises(Refused, match="of an older star-bench"):
        train(tmp_path)


def test_a_model_that_is_no_longer_finite_ends_at_once(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match="no longer finite"):
        train(tmp_path, "rollout.prompts=8", "optimiser.learning_rate=1.0e30", "optimiser.updates_per_epoch=1")
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["000000"]
    assert not (tmp_path / "card.json").exists()


def test_a_folder_in_use_is_locked(undisturbed: Path) -> None:
    with locked(undisturbed), pytest.raises(Locked):
        Trainer(tiny(), undisturbed, device="cpu", bar=Silent()).train()


def test_divergence_stops_with_the_last_good_state_kept(tmp_path: Path) -> None:
    train(tmp_path, "epochs=1")
    state = load_file(tmp_path / "state" / "000001" / "tensors.safetensors")
    with pytest.raises(Diverged, match="log ratio"):
        train(tmp_path, "guards.log_ratio=1.0e-12")
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["000000", "000001"]
    kept = load_file(tmp_path / "state" / "000001" / "tensors.safetensors")
    assert all(torch.equal(state[name], kept[name]) for name in state)


def test_a_reward_that_fell_in_a_short_training_is_noticed(tmp_path: Path) -> None:
    trainer = Trainer(tiny(), tmp_path, device="cpu", bar=Silent())
    trainer.history = [0.6, 0.2]
    assert [notice.kind for notice in trainer.notices()] == ["reward_fell"]
    trainer.history = [0.2, 0.6]
    assert trainer.notices() == []


@pytest.mark.parametrize(
    "changes", [(), ("rollout.variant=cps", "objective.kl=0.1"), ("objective.guard=true",)], ids=" ".join
)
def test_without_a_window_all_steps_but_the_last_are_trained(tmp_path: Path, changes: tuple[str, ...]) -> None:
    """The papers' shape: noise at every step. Each rollout that is learned from gives steps - 1 transitions."""
    names = ("rollout.window=null", "rollout.steps=4", "rollout.prompts=4", "epochs=1", *changes)
    row = train(tmp_path, *names, name="flow-grpo-geneval-mini")[-1]
    kept = round(row["kept"] * 16)
    assert kept > 0
    assert row["updates/transitions"] == kept * 3
    assert row["updates/taken"] == 2
    assert all(math.isfinite(row[name]) for name in ("loss/policy", "grad_norm", "ratio/first_log"))
    if "objective.kl=0.1" in changes:
        assert math.isfinite(row["kl"]) and row["kl"] < 1


@pytest.mark.parametrize("kind", ["uniform", "all-ones", "shuffled", "all-tokens", "time-averaged", "joint", "oracle"])
def test_every_control_trains(tmp_path: Path, kind: str) -> None:
    rows = train(tmp_path, f"allocation.kind={kind}", "epochs=1")
    assert rows[-1]["epoch"] == 1
    assert (rows[-1]["allocation/largest_weight"] == 1) == (kind in ("uniform", "all-ones"))


@pytest.mark.parametrize(
    "changes",
    [
        ("objective.kl=0.1",),
        ("objective.guard=true",),
        ("objective.ratio=weighted-scalar",),
        ("rollout.variant=cps",),
        ("rollout.window=null", "rollout.shared_start=true"),
        ("compute.gradient_checkpointing=true", "compute.precision=bfloat16"),
        ("rollout.guidance_scale=4.0", "advantage.std=group"),
    ],
    ids=" ".join,
)
def test_every_option_trains(tmp_path: Path, changes: tuple[str, ...]) -> None:
    row = train(tmp_path, "epochs=1", *changes)[-1]
    assert row["ratio/first_log"] in (0.0, None)
    assert (row["kl"] is None) == ("objective.kl=0.1" not in changes or row["loss/policy"] is None)


def test_a_mix_of_suites_shares_the_epochs_prompts(tmp_path: Path) -> None:
    mixed = "rewards=[{suite: geneval-miniature, weight: 3}, {suite: preference-miniature, weight: 1}]"
    row = train(tmp_path, mixed, "rollout.prompts=4", "epochs=1")[-1]
    assert row["reward/geneval-miniature"] is not None
    assert row["reward/preference-miniature"] is not None


def test_evaluates_before_and_after_by_the_suites_own_run(tmp_path: Path) -> None:
    asked = {"suites": "[geneval-miniature]", "limit": 6, "samples": 1, "steps": 2}
    rows = train(tmp_path, "epochs=1", *(f"evaluation.{key}={value}" for key, value in asked.items()))
    assert [row["epoch"] for row in rows] == [0, 1]
    assert all(0 <= row["eval/geneval-miniature/overall"] <= 1 for row in rows)
    runs = [json.loads(path.read_bytes()) for path in (tmp_path / "evaluations").glob("*/*/*/results.json")]
    assert [(run["suite"], run["protocol"]["steps"], run["protocol"]["samples"]) for run in runs] == [
        ("geneval-miniature", 2, 1)
    ] * 2


def test_a_model_that_is_not_here_stops_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises((MissingWeights, Refused)):
        Trainer(tiny("model=sd3.5-medium"), tmp_path / "out", device="cpu", bar=Silent())
    assert not (tmp_path / "out").exists()


def test_blocks_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no block 9"):
        Trainer(tiny("allocation.blocks=[9]"), tmp_path, device="cpu", bar=Silent())

"""All of the transformer's weights trained: what comes out, and what goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_training import metrics, tiny, train

from star_bench.assets import model_files
from star_bench.catalogue import checkpoints
from star_bench.catalogue.protocol import GenerationSettings
from star_bench.errors import UsageError
from star_bench.runs.progress import Silent
from star_bench.runs.run import Options, prepare, run
from star_bench.training.output import register
from star_bench.training.trainer import Trainer

ALL_WEIGHTS = ("lora=null", "optimiser.learning_rate=1e-4", "ema.every=1", "rollout.prompts=4")
WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("all") / "out"
    train(folder, *ALL_WEIGHTS, "masks.every=1", "masks.prompts=[a photo of a cup]", "objective.kl=0.04")
    return folder


def test_the_average_of_all_weights_comes_out(trained: Path) -> None:
    base = load_file(model_files.locate(checkpoints.resolve("miniature")).folder / WEIGHTS)
    after, state = load_file(trained / WEIGHTS), load_file(trained / "state" / "000003" / "tensors.safetensors")
    assert after.keys() == base.keys()
    moved = [name for name in after if not torch.equal(after[name], base[name].float())]
    assert len(moved) > 0.9 * len(after)
    for name in moved:
        torch.testing.assert_close(after[name], state[f"ema/{name}"], atol=0, rtol=0)


def test_rollouts_and_updates_have_the_same_weights(trained: Path) -> None:
    """Also after maps were drawn with the averaged ones."""
    taught = [row for row in metrics(trained)[1:] if row["kept"]]
    assert len(taught) > 1
    assert all(row["ratio/first_log"] == 0 for row in taught)
    assert any(row["ratio/last_log"] > 0 for row in taught)


def test_the_reference_stays_what_it_was(trained: Path) -> None:
    kl = [row["kl"] for row in metrics(trained)[1:] if row["kept"]]
    assert kl[0] < kl[-1]


def test_it_goes_on_exactly(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    changes = (*ALL_WEIGHTS, "objective.kl=0.04")
    train(folder, *changes, "epochs=1")
    assert train(folder, *changes)[-1] == metrics(trained)[-1]
    assert (folder / WEIGHTS).read_bytes() == (trained / WEIGHTS).read_bytes()


def test_gradient_checkpointing_changes_nothing(trained: Path, tmp_path: Path) -> None:
    rows = train(tmp_path, *ALL_WEIGHTS, "objective.kl=0.04", "epochs=1", "compute.gradient_checkpointing=true")
    timed = {"seconds/collect", "seconds/update", "images_per_second"}
    own = {name for name in rows[1] if name not in timed and not name.startswith("eval/")}
    assert {name: rows[1][name] for name in own} == {name: metrics(trained)[1][name] for name in own}


def test_run_takes_it_for_a_pipeline(trained: Path, tmp_path: Path) -> None:
    options = Options(
        ("geneval-miniature",),
        str(trained),
        limit=2,
        samples=1,
        device="cpu",
        runs=tmp_path,
        settings=GenerationSettings(steps=2),
    )
    prepared = prepare(options)
    assert run(prepared, options, Silent())[0]["complete"]
    assert prepared.parts[0].plan.protocol is not None
    assert prepared.parts[0].plan.protocol.guidance_scale == tiny().rollout.guidance_scale
    assert prepared.parts[0].plan.protocol.height == 64
    assert prepared.parts[0].plan.subject.licence.startswith("that of its base, miniature")


def test_it_can_be_registered(trained: Path, tmp_path: Path) -> None:
    file = tmp_path / "checkpoints.yaml"
    shutil.copy(checkpoints.CHECKPOINTS_FILE, file)
    register(trained, "mine", file)
    entry = checkpoints.entries(file)["mine"]
    assert entry.source.path == str(trained.resolve())
    assert not entry.lora
    assert json.loads((trained / "card.json").read_text())["transformer_digest"]


def test_what_it_can_not_do_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't be trained in float16"):
        Trainer(tiny("lora=null", "compute.precision=float16"), tmp_path, device="cpu", bar=Silent())


def test_forwards_in_bfloat16_leave_weights_in_float32(tmp_path: Path) -> None:
    rows = train(tmp_path, *ALL_WEIGHTS, "epochs=1", "compute.precision=bfloat16")
    assert rows[-1]["ratio/first_log"] == 0
    state = load_file(tmp_path / "state" / "000001" / "tensors.safetensors")
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    assert load_file(tmp_path / WEIGHTS)["proj_out.weight"].dtype == torch.bfloat16

"""What can be known before weights are loaded ends a run before judges are, and leaves no folder behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from star_bench.catalogue.protocol import GenerationSettings
from star_bench.catalogue.shipped import MINIATURE_FOLDER
from star_bench.errors import Refused, UsageError
from star_bench.evaluators.geneval.evaluator import GenEval
from star_bench.runs.nearest import nearest
from star_bench.runs.progress import Silent
from star_bench.runs.run import Options, prepare, run
from star_bench.runs.scores import open_scores

SUITE = "geneval-miniature"


def pipeline(folder: Path, **scheduler: object) -> Path:
    """A copy of the miniature with other settings of its scheduler."""
    shutil.copytree(MINIATURE_FOLDER / "pipeline", folder)
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **scheduler}))
    return folder


@pytest.mark.parametrize(("size", "sentence"), [(65, "use multiples of 8"), (4096, "more than this model can place")])
def test_a_size_that_does_not_fit_is_told_from_the_configuration(tmp_path: Path, size: int, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        prepare(
            Options(
                suites=(SUITE,),
                model="miniature",
                device="cpu",
                runs=tmp_path,
                settings=GenerationSettings(height=size, width=size),
            )
        )
    assert not list(tmp_path.iterdir())


def test_a_lora_of_an_unknown_form_is_told_by_the_names_of_its_keys(tmp_path: Path) -> None:
    file = tmp_path / "lora.safetensors"
    save_file({"lora_unet_a.hada_w1_a": np.zeros(2)}, file)
    options = Options(suites=(SUITE,), model=str(file), base="miniature", device="cpu", runs=tmp_path / "runs")
    with pytest.raises(Refused, match=r"lora_unet_a\.hada_w1_a', and that is no form of a LoRA's key"):
        prepare(options)
    assert not (tmp_path / "runs").exists()


def test_noise_without_a_seed_is_told_before_judges_are_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = pipeline(tmp_path / "unseeded", stochastic_sampling=True)
    options = Options(suites=(SUITE,), model=str(model), limit=1, device="cpu", runs=tmp_path / "runs")
    prepared = prepare(options)
    judged: list[object] = []
    monkeypatch.setattr(GenEval, "score", lambda *asked: judged.append(asked))
    with pytest.raises(Refused, match="draws noise that has no seed"):
        run(prepared, options, Silent())
    assert not judged
    assert not list((tmp_path / "runs").iterdir())


def test_a_folder_that_holds_something_stays(tmp_path: Path) -> None:
    for name, written in (("a", True), ("b", False)):
        with open_scores(tmp_path / "model" / "suite" / name) as store:
            if written:
                store.write("manifest.json", {})
    assert [path.name for path in (tmp_path / "model" / "suite").iterdir()] == ["a"]


def test_the_nearest_run_differs_in_what_was_asked_and_nothing_else(tmp_path: Path) -> None:
    """A default that a stored protocol leaves out is no difference."""
    common = {"suites": (SUITE,), "model": "miniature", "limit": 1, "samples": 1, "device": "cpu", "runs": tmp_path}
    first = Options(**common, settings=GenerationSettings(steps=2))
    run(prepare(first), first, Silent())
    said = nearest(prepare(Options(**common, settings=GenerationSettings(steps=3))).parts[0].plan.pictures, tmp_path)
    assert said is not None and said.endswith("differ in steps (2, now 3)")

"""`star-bench run` as a user meets it: complete, interrupted, broken, refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from star_bench.catalogue.shipped import MINIATURE_FOLDER, SUITES_FOLDER
from star_bench.errors import Incomplete, Refused, UsageError

Cli = Callable[..., subprocess.CompletedProcess[str]]


def environment(**more: str) -> dict[str, str]:
    """One thread, no hub."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **more}


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """cli("run", "--suite", ...) in an empty folder."""

    def call(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "star_bench", *words],
            cwd=tmp_path,
            env=environment(**more),
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )

    return call


SMALL = ("--model", "miniature", "--suite", "ocr-miniature", "--limit", "4", "--steps", "4", "--batch-size", "2")


def one_run(folder: Path) -> Path:
    """The only run below a folder."""
    (manifest,) = (path for path in folder.glob("runs/*/*/*/manifest.json") if path.parts[-3] != "pictures")
    return manifest.parent


def test_a_run_reports_and_says_what_each_number_is(cli: Cli, tmp_path: Path) -> None:
    done = cli("run", *SMALL, "--json")
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert results["complete"] and results["counts"]["ok"] == results["counts"]["planned"] == 8
    assert results["subset"] == {"limit": 4, "of": 60}
    assert results["metric"]["implementation"].startswith("rapidocr")
    assert results["aggregates"][0]["low"] <= results["aggregates"][0]["value"] <= results["aggregates"][0]["high"]
    page = tmp_path / results["report"]
    assert "SUBSET" in page.read_text() and len(list(page.parent.glob("images/**/*.png"))) == 8
    listed = json.loads(cli("ls", "runs", "--json").stdout)
    assert [row["state"] for row in listed] == ["complete"]


def test_dry_run_costs_nothing_and_writes_nothing(cli: Cli, tmp_path: Path) -> None:
    done = cli("run", *SMALL, "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["transformer_forwards"] == 4 * 2 * 4 * 2
    assert list(tmp_path.iterdir()) == []


def only_a_variant(model: Path) -> None:
    weights = model / "vae" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".fp16.safetensors"))


def without_t5(model: Path) -> None:
    index = json.loads((model / "model_index.json").read_text())
    changed = index | {name: [None, None] for name in ("text_encoder_3", "tokenizer_3")}
    (model / "model_index.json").write_text(json.dumps(changed))


def without_an_index(model: Path) -> None:
    (model / "model_index.json").unlink()


def of_another_family(model: Path) -> None:
    index = json.loads((model / "model_index.json").read_text())
    (model / "model_index.json").write_text(json.dumps(index | {"_class_name": "FluxPipeline"}))


def with_a_shifting_vae(model: Path) -> None:
    config = json.loads((model / "vae" / "config.json").read_text())
    (model / "vae" / "config.json").write_text(json.dumps(config | {"latents_mean": [0.5]}))


def in_one_file(model: Path) -> None:
    weights = model.with_name("weights")
    (model / "transformer" / "diffusion_pytorch_model.safetensors").rename(weights)
    shutil.rmtree(model)
    weights.rename(model)


@pytest.mark.parametrize(
    ("form", "code", "sentence"),
    [
        (only_a_variant, Refused.exit_code, "vae holds only the fp16 variant of its weights"),
        (without_t5, Refused.exit_code, "has no third text encoder"),
        (without_an_index, Refused.exit_code, "holds no model_index.json"),
        (of_another_family, Refused.exit_code, "FluxPipeline is not supported"),
        (with_a_shifting_vae, Refused.exit_code, "the VAE shifts its latents per channel"),
        (in_one_file, UsageError.exit_code, "is a whole model in one file and no LoRA"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_refused_before_anything_is_judged(
    cli: Cli, form: Callable[[Path], None], code: int, sentence: str, tmp_path: Path
) -> None:
    model, suite = tmp_path / "model.safetensors", tmp_path / "suite"
    form(Path(shutil.copytree(MINIATURE_FOLDER / "pipeline", model)))
    shutil.copytree(SUITES_FOLDER / "geneval-miniature", suite)
    card = yaml.safe_load((suite / "card.yaml").read_text())
    card["canaries"] = [card["canaries"][0] | {"low": 0, "high": 0}]  # no judge says so
    (suite / "card.yaml").write_text(yaml.safe_dump(card))
    done = cli("run", "--model", "model.safetensors", "--suite", "suite", "--limit", "1")
    assert (done.returncode, done.stderr.count("\n")) == (code, 1) and sentence in done.stderr, done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("--model", "miniatur", "--suite", "ocr-miniature"), UsageError.exit_code, "did you mean 'miniature'"),
        (("--model", "miniature", "--suite", "genval"), UsageError.exit_code, "did you mean 'geneval'"),
        (("--suite", "ocr-miniature"), UsageError.exit_code, "either a model or a folder"),
        (("--model", "star-geneval", "--suite", "ocr-miniature"), Refused.exit_code, "not released"),
        (("--model", "sd3.5-medium", "--suite", "geneval"), Refused.exit_code, "3 things are not on this machine"),
        (("--model", "miniature", "--suite", "geneval"), Refused.exit_code, "not on this machine"),
        (("--model", "miniature", "--suite", "ocr-miniature", "--device", "cud"), UsageError.exit_code, "device"),
        (("--images", "nowhere", "--suite", "ocr-miniature"), UsageError.exit_code, "not a folder"),
        ((*SMALL, "--runs", "s3://bucket/runs"), UsageError.exit_code, "use 'run --mirror ADDRESS'"),
    ],
)
def test_refusals_are_one_sentence(cli: Cli, words: tuple[str, ...], code: int, sentence: str, tmp_path: Path) -> None:
    done = cli("run", *words)
    assert done.returncode == code, done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def suite_copy(folder: Path, **changes: object) -> Path:
    """The miniature OCR suite as a user's own, with keys of its card changed."""
    shutil.copytree(SUITES_FOLDER / "ocr-miniature", folder)
    path = folder / "card.yaml"
    card = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(card | changes))
    return path


def test_a_broken_card_names_the_line_or_the_key(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "card.yaml").write_text("name: x\n  title: [\n")
    done = cli("run", "--model", "miniature", "--suite", "card.yaml")
    assert done.returncode == UsageError.exit_code and "line 2" in done.stderr
    path = suite_copy(tmp_path / "mine", evaluatr="ocr")
    done = cli("run", "--model", "miniature", "--suite", str(path))
    assert done.returncode == UsageError.exit_code and "did you mean 'evaluator'" in done.stderr


def test_an_empty_prompt_file(cli: Cli, tmp_path: Path) -> None:
    path = suite_copy(tmp_path / "mine", prompts={"path": "prompts.txt"})
    (tmp_path / "mine" / "prompts.txt").write_text("")
    done = cli("run", "--model", "miniature", "--suite", str(path))
    assert done.returncode == UsageError.exit_code and "prompts.txt" in done.stderr


PLUGIN = textwrap.dedent(
    """
    from star_bench.evaluators.base import Canary, Evaluator, Metric, Prompt, Score
    import numpy as np

    class Raises(Evaluator):
        metric = Metric("mine", "mine", "1", "share", (0, 1), "MIT", "")
        def prompts(self):
            return [Prompt("a", "a photo of a car"), Prompt("b", "a photo of a kite")]
        def score(self, images, prompts):
            if any(p.id == "b" for p in prompts):
                raise RuntimeError("the judge fell over")
            return [Score(0.5) for _ in images]

    class Blind(Raises):
        def canaries(self):
            return [Canary("black", np.zeros((8, 8, 3), np.uint8), Prompt("a", "x"), 1.0, 1.0)]
    """
)


def plugin(folder: Path, name: str) -> Path:
    """An installed package with an evaluator, and a card that uses it."""
    (folder / "site").mkdir()
    (folder / "site" / "judge_of_mine.py").write_text(PLUGIN)
    info = folder / "site" / "judge_of_mine-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: judge-of-mine\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[star_bench.evaluators]\nmine = judge_of_mine:{name}\n")
    return suite_copy(folder / "mine", evaluator="mine", judges={})


def test_a_plugin_that_raises_fails_its_images_and_keeps_the_rest(cli: Cli, tmp_path: Path) -> None:
    card = plugin(tmp_path, "Raises")
    words = ("--model", "miniature", "--suite", str(card), "--steps", "1", "--samples", "1", "--batch-size", "1")
    done = cli("run", *words, "--json", PYTHONPATH=str(tmp_path / "site"))
    assert done.returncode == Incomplete.exit_code, done.stderr
    assert "1 of 2" in done.stderr
    results = json.loads(done.stdout)
    assert results["counts"]["error"] == 1 and results["aggregates"][0]["value"] == 0.5
    assert "the judge fell over" in (one_run(tmp_path) / "scores.jsonl").read_text()


def test_a_misjudged_canary_stops_before_anything_is_made(cli: Cli, tmp_path: Path) -> None:
    card = plugin(tmp_path, "Blind")
    words = ("--model", "miniature", "--suite", str(card), "--steps", "1", "--samples", "1")
    done = cli("run", *words, PYTHONPATH=str(tmp_path / "site"))
    assert done.returncode == Refused.exit_code, done.stderr
    assert "canary 'black'" in done.stderr and "got 0.5" in done.stderr
    assert not list(tmp_path.glob("runs/*/*/*/images/*")) and not list(tmp_path.glob("runs/*/*/*/results.json"))

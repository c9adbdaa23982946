"""The GitHub Action's own script, run as a runner would: it stops a checkpoint that was made worse, and passes its twin."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from star_bench.catalogue.shipped import MINIATURE_FOLDER

ROOT = Path(__file__).resolve().parents[1]
if not (ROOT / "action.yml").is_file():
    pytest.skip("the action's file lies in a checkout only, and these tests do not", allow_module_level=True)
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
STEP: dict[str, Any] = next(step for step in ACTION["runs"]["steps"] if step.get("id") == "gate")
INPUTS = {"suite": "geneval-miniature", "run-options": "--steps 6 --samples 1 --limit 36 --device cpu"}


def gate(folder: Path, **inputs: str) -> tuple[int, str, str]:
    """(exit code, what it put out, what it wrote into the job's summary)."""
    given = {name: str(spec.get("default", "")) for name, spec in ACTION["inputs"].items()}
    given |= INPUTS | {name.replace("_", "-"): value for name, value in inputs.items()}
    env = {name: given[value.removeprefix("${{ inputs.").removesuffix(" }}")] for name, value in STEP["env"].items()}
    output, summary = folder / "output", folder / "summary.md"
    for file in (output, summary):
        file.write_text("")
    paths = {"GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(summary)}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", STEP["run"]],
        cwd=folder,
        env={**os.environ, **env, **paths, "PATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    return ran.returncode, output.read_text() + ran.stderr, summary.read_text()


def copy_of_the_miniature(folder: Path, *, noise: float) -> Path:
    """The shipped pipeline, its transformer's weights off by `noise` of their own standard deviation."""
    shutil.copytree(MINIATURE_FOLDER / "pipeline", folder)
    file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    torch.manual_seed(0)
    weights = {
        name: (w.float() + noise * w.float().std(correction=0) * torch.randn(w.shape)).to(w.dtype)
        for name, w in load_file(file).items()
    }
    save_file(weights, file)
    return folder


def test_worse_weights_are_stopped_and_a_twin_passes(tmp_path: Path) -> None:
    copy_of_the_miniature(tmp_path / "twin", noise=0.0)
    copy_of_the_miniature(tmp_path / "worse", noise=0.4)
    code, out, summary = gate(tmp_path, model="twin", baseline_model="miniature")
    assert (code, "verdict=passed" in out) == (0, True), out
    assert summary.startswith("### ✅ PASSED: twin on geneval-miniature against miniature")
    baseline = json.loads((tmp_path / "star-bench-gate/baseline.json").read_text())["run"]
    code, out, summary = gate(tmp_path, model="worse", baseline=baseline)
    assert (code, "verdict=failed" in out) == (1, True), out
    assert summary.startswith("### ❌ FAILED: worse on geneval-miniature against miniature: worse (overall")
    assert ElementTree.parse(tmp_path / "star-bench-gate/gate.xml").getroot().get("failures") == "1"


@pytest.mark.parametrize(
    ("inputs", "code", "words"),
    [
        ({"model": "miniature"}, 2, "give either baseline-model or baseline"),
        ({"model": "nobody", "baseline_model": "miniature"}, 2, "nobody"),
        ({"model": "$(touch hacked)", "baseline_model": "miniature"}, 2, "$(touch hacked)"),
        ({"model": "sd3.5-medium", "baseline_model": "miniature"}, 4, "stable-diffusion-3.5-medium"),
    ],
)
def test_what_can_not_be_judged_never_reads_as_a_verdict(
    tmp_path: Path, inputs: dict[str, str], code: int, words: str
) -> None:
    found, out, summary = gate(tmp_path, **inputs)
    assert (found, summary) == (code, "")
    assert words in out and "verdict=" not in out
    assert not (tmp_path / "hacked").exists()


def test_the_example_uses_inputs_that_the_action_has() -> None:
    example = yaml.safe_load((ROOT / "docs/examples/gate-a-lora.yml").read_text(encoding="utf-8"))
    used = next(step for step in example["jobs"]["gate"]["steps"] if "star-bench" in step["uses"])
    assert set(used["with"]) <= set(ACTION["inputs"])
    required = {name for name, spec in ACTION["inputs"].items() if spec.get("required")}
    assert required <= set(used["with"])

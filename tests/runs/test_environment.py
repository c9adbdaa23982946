"""Which session made a row, what that session was run with, and what is said where sessions differ."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from star_bench.catalogue.protocol import GenerationSettings
from star_bench.runs.environment import LIBRARIES, environment, of_mixture, packages
from star_bench.runs.progress import Silent
from star_bench.runs.run import Options, prepare, run

Again = Callable[[], tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]]


@pytest.fixture
def again(tmp_path: Path) -> Again:
    """again() gives the same command once more: results, manifest and score rows."""

    def call() -> tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]:
        options = Options(
            suites=("geneval-miniature",),
            model="miniature",
            limit=3,
            samples=1,
            device="cpu",
            runs=tmp_path,
            settings=GenerationSettings(steps=2),
        )
        prepared = prepare(options)
        (results,) = run(prepared, options, Silent())
        manifest = json.loads((prepared.parts[0].folder / "manifest.json").read_text())
        rows = [json.loads(line) for line in (prepared.parts[0].folder / "scores.jsonl").read_text().splitlines()]
        return results, manifest, rows

    return call


def test_a_session_keeps_its_own_environment_and_rows_name_it(again: Again, tmp_path: Path) -> None:
    results, manifest, rows = again()
    (session,) = manifest["sessions"]
    assert session["environment"] == {**environment("cpu"), "packages": packages()}
    assert session["environment"]["packages"]["torch"] == metadata.version("torch")
    assert {row["session"] for row in rows} == {0} and not results["notices"]

    # The first session is made another machine's, and one of its scores is lost.
    path = next(tmp_path.glob("*/geneval-miniature/*/manifest.json"))
    manifest["sessions"][0]["environment"] |= {"torch": "2.0.1", "gpu": "NVIDIA H200"}
    path.write_text(json.dumps(manifest))
    scores = path.parent / "scores.jsonl"
    unmixed = scores.read_text()
    results, manifest, rows = again()
    assert len(manifest["sessions"]) == 2 and not results["notices"], "a session that made nothing mixes nothing"
    scores.write_text("".join(unmixed.splitlines(keepends=True)[:-1]))
    results, manifest, rows = again()
    assert [session["environment"].get("gpu") for session in manifest["sessions"]] == ["NVIDIA H200", None, None]
    assert [row["session"] for row in rows] == [0, 0, 2]
    (notice,) = results["notices"]
    assert notice["kind"] == "mixed_environments"
    here = metadata.version("torch")
    assert notice["text"].startswith("MIXED: ") and f"torch (2.0.1, {here})" in notice["text"]
    assert "gpu (NVIDIA H200, unknown)" in notice["text"]


def test_rows_of_before_sessions_were_named_are_of_the_manifests_environment() -> None:
    old, new = {"torch": "2.0.1", "device": "cpu"}, {"torch": "2.9.0", "device": "cpu", "packages": {"a": "1"}}
    manifest = {"environment": old, "sessions": [{"started": "x"}, {"started": "y", "environment": new}]}
    assert of_mixture("pictures", manifest, [{"k": 0}, {"k": 1, "session": 0}]) == []
    assert of_mixture("pictures", manifest, [{"session": 1}, {"session": 1}]) == []
    (notice,) = of_mixture("pictures", manifest, [{"k": 0}, {"session": 1}])
    assert notice.text == "MIXED: pictures were made by sessions that differ in torch (2.0.1, 2.9.0)"


def test_an_environment_names_what_draws_and_judges() -> None:
    found = environment("cpu")
    assert found["device"] == "cpu" and found["torch"] == metadata.version("torch")
    assert set(LIBRARIES) <= found.keys() and "gpu" not in found


@pytest.mark.gpu
def test_a_gpu_is_named_with_capability_cuda_and_driver() -> None:
    found = environment("cuda")
    assert found["gpu"] and found["capability"].count(".") == 1 and found["cuda"] and found["driver"] != "unknown"

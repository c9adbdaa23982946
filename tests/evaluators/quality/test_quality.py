"""The panel as a suite runs it: cards, identities, failures, and what a run records and shows of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import yaml
from audit import opened

from star_bench.assets import prompt_files
from star_bench.catalogue import suites
from star_bench.catalogue.suites import JudgeWeights, SuiteCard
from star_bench.errors import MissingWeights, Refused, UsageError
from star_bench.evaluators.base import Prompt, Status, check_canaries
from star_bench.evaluators.quality.clip_score import ClipScore
from star_bench.evaluators.quality.diversity import Diversity, mean_distance
from star_bench.evaluators.quality.evaluator import Quality

PROMPTS = [Prompt("0", "a red car"), Prompt("1", "a blue chair"), Prompt("2", "a red car")]


@pytest.fixture
def judges(
    clip_folder: Path,
    aesthetic_folder: Path,
    hps_folder: Path,
    hps_architecture: str,
    image_reward_folder: Path,
    sizes: Any,
) -> dict[str, Any]:
    """Of a card with every kind of measure."""

    def at(folder: Path) -> dict[str, Any]:
        return {"weights": {"path": str(folder)}}

    return {
        "name": "Tiny panel",
        "clips": {"tiny": {**at(clip_folder), "quick_gelu": True}},
        "measures": [
            {"kind": "clip_score", "name": "CLIPScore", "clip": "tiny"},
            {"kind": "aesthetic", "name": "Looks", "clip": "tiny", **at(aesthetic_folder)},
            {"kind": "hps", "name": "HPS", "model": hps_architecture, **at(hps_folder)},
            {"kind": "image_reward", "name": "IR", "sizes": sizes, **at(image_reward_folder)},
            {"kind": "sharpness", "name": "Sharpness"},
            {"kind": "contrast", "name": "Contrast"},
            {"kind": "diversity", "name": "Diversity", "clip": "tiny"},
        ],
    }


def card(judges: dict[str, Any]) -> SuiteCard:
    return suites.load("quality-miniature").model_copy(update={"judges": judges})


def test_each_measure_says_its_number(judges: dict[str, Any], pictures: list[np.ndarray]) -> None:
    panel = Quality(card(judges))
    scores = panel.score(pictures, PROMPTS)
    for score in scores:
        assert list(score.detail["measures"]) == ["CLIPScore", "Looks", "HPS", "IR", "Sharpness", "Contrast"]
        assert score.value == score.detail["measures"]["CLIPScore"]
        assert list(score.detail["features"]) == ["Diversity"]
        assert json.loads(json.dumps(score.detail)) == score.detail
    assert scores == [panel.score([i], [p])[0] for i, p in zip(pictures, PROMPTS, strict=True)]
    assert len({score.value for score in scores}) == 3


def test_aggregates_take_what_belongs_to_them(judges: dict[str, Any], pictures: list[np.ndarray]) -> None:
    panel = Quality(card(judges))
    scores = panel.score(pictures, PROMPTS)
    *of_images, diversity = panel.aggregates
    assert [each.name for each in panel.aggregates] == [measure["name"] for measure in judges["measures"]]
    for aggregate in of_images:
        assert aggregate.of_prompt is None
        assert [aggregate.value(s) for s in scores] == [s.detail["measures"][aggregate.name] for s in scores]
    assert diversity.of_prompt is mean_distance
    assert 0 < mean_distance([diversity.value(score) for score in scores]) < 2


def test_measures_ask_for_one_clip(judges: dict[str, Any]) -> None:
    first, *_, last = Quality(card(judges)).panel
    assert isinstance(first, ClipScore) and isinstance(last, Diversity)
    assert first.clip is last.clip


def test_every_measure_has_an_identity(judges: dict[str, Any]) -> None:
    panel = Quality(card(judges))
    rows = {row["name"]: row for row in panel.measures()}
    keys = {"name", "kind", "unit", "implementation", "version", "licence", "paper", "better"}
    assert all(row.keys() == keys and all(row.values()) for row in rows.values())
    better = [name for name, row in rows.items() if row["better"] == "higher"]
    assert better == ["CLIPScore", "Looks", "HPS", "IR"]
    assert all(row["better"] == "none" for name, row in rows.items() if name not in better)
    assert panel.judges().keys() == {"tiny", "Looks", "HPS", "IR", "IR tokenizer"}
    assert rows["CLIPScore"]["version"] == rows["Diversity"]["version"] != rows["Looks"]["version"]
    assert panel.metric.identity.startswith("Tiny panel [100 x cosine], panel of 7, first CLIPScore ")


def test_licences_are_those_of_the_cards_judge_weights(judges: dict[str, Any]) -> None:
    said = [JudgeWeights(name="tiny", licence="MIT"), JudgeWeights(name="HPS", licence="Apache-2.0")]
    silent, panel = Quality(card(judges)), Quality(card(judges).model_copy(update={"judge_weights": said}))
    licences = {row["name"]: row["licence"] for row in panel.measures()}
    assert (licences["CLIPScore"], licences["Diversity"], licences["HPS"]) == ("MIT", "MIT", "Apache-2.0")
    assert licences["Looks"] == "not stated; its CLIP: MIT"
    assert "HPS: Apache-2.0" in panel.metric.licence
    assert panel.metric.identity == silent.metric.identity


def test_every_judge_of_the_shipped_panels_has_its_licence() -> None:
    for name in ("quality", "quality-miniature"):
        suite = suites.load(name)
        weighed = [row["name"] for row in suite.judges["measures"] if "weights" in row]
        assert [weights.name for weights in suite.judge_weights] == [*suite.judges["clips"], *weighed]


def test_another_weight_is_another_version(judges: dict[str, Any], image_reward_folder: Path) -> None:
    before = Quality(card(judges))
    path = image_reward_folder / "tokenizer.json"
    path.write_text(path.read_text() + "\n")
    after = Quality(card(judges))
    changed = [old["name"] for old, new in zip(before.measures(), after.measures(), strict=True) if old != new]
    assert changed == ["IR"]
    assert before.metric.identity != after.metric.identity


def test_a_picture_that_one_measure_can_not_judge_is_an_error(
    judges: dict[str, Any], pictures: list[np.ndarray]
) -> None:
    flat = pictures[0][:2]  # a CLIP judges it, the Laplacian does not
    bad, good = Quality(card(judges)).score([flat, pictures[1]], PROMPTS[:2])
    assert (bad.value, bad.status, good.status) == (None, Status.ERROR, Status.OK)
    assert bad.detail == {"error": "Sharpness: ValueError: a picture of 60 x 2 pixels has no Laplacian"}


def test_a_number_that_is_not_finite_is_an_error(
    judges: dict[str, Any], aesthetic_folder: Path, aesthetic_state: Any, pictures: Any
) -> None:
    import torch

    (path,) = aesthetic_folder.iterdir()
    torch.save({name: tensor * 1e30 for name, tensor in aesthetic_state.items()}, path)
    (score,) = Quality(card(judges)).score(pictures[:1], PROMPTS[:1])
    assert (score.value, score.status) == (None, Status.ERROR)
    assert score.detail["error"].startswith("Looks: ValueError: the value is ")


def test_broken_weights_are_refused_and_no_pictures_error(
    judges: dict[str, Any], aesthetic_folder: Path, pictures: Any
) -> None:
    (path,) = aesthetic_folder.iterdir()
    path.write_bytes(path.read_bytes()[:999])
    with pytest.raises(Refused, match="can't be read"):
        Quality(card(judges)).score(pictures[:1], PROMPTS[:1])


def test_the_panel_is_held_out(judges: dict[str, Any], pictures: Any) -> None:
    with pytest.raises(UsageError, match="held-out panel and gives no reward: train on the suite that it watches over"):
        Quality(card(judges)).reward(pictures, PROMPTS)


@pytest.mark.parametrize(
    ("measures", "says"),
    [
        ([{"kind": "sharpnes", "name": "a"}], r"judges.measures.0: unknown kind 'sharpnes': did you mean 'sharpness'"),
        ([{"kind": "clip_score", "name": "a", "clip": "tinny"}], "no clip named 'tinny': did you mean 'tiny'"),
        ([{"kind": "contrast", "name": "a", "clip": "tiny"}], "unknown key 'clip'"),
        ([{"kind": "contrast", "name": "a"}, {"kind": "sharpness", "name": "a"}], "the name 'a' stands there twice"),
        ([{"kind": "diversity", "name": "a", "clip": "tiny"}], "'a' comes first and says nothing of single images"),
        ([], "measures: it has 0 entries, and at least 1 are needed"),
    ],
)
def test_wrong_cards_are_explained(judges: dict[str, Any], measures: list[dict[str, Any]], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Quality(card({**judges, "measures": measures}))


def test_missing_weights_are_told_without_torch(tmp_path: Path) -> None:
    """In a fresh process, as a user meets it: one sentence with the command, exit code 4, nothing heavy imported."""
    code = (
        "import sys; from star_bench.catalogue import suites; from star_bench.errors import MissingWeights\n"
        "from star_bench.evaluators.quality.evaluator import Quality\n"
        "try: Quality(suites.load('quality')).judges()\n"
        "except MissingWeights as e: print('torch' in sys.modules, e.exit_code, e, sep='|')"
    )
    variables = {"STAR_BENCH_WEIGHTS_DIR": str(tmp_path), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=variables)
    torch_there, exit_code, sentence = done.stdout.strip().split("|")
    assert (torch_there, exit_code) == ("False", "4")
    assert (
        "OpenAI's CLIP ViT-L/14, the official colour judge of GenEval are not on this machine: put them in" in sentence
    )


def test_all_weights_are_looked_for_before_any_is_read(judges: dict[str, Any], hps_folder: Path) -> None:
    """A digest of gigabytes would take longer than the answer may."""
    (path,) = hps_folder.iterdir()
    path.unlink()
    judges["measures"][2]["weights"]["fetch"] = "hf download x --local-dir {folder}"
    panel = Quality(card(judges))
    assert panel.metric.version == "not installed"
    with (
        opened(path.parents[1]) as read,
        pytest.raises(MissingWeights, match=f"run 'hf download x --local-dir {hps_folder}', or put"),
    ):
        panel.judges()
    assert read == []
    assert not vars(panel).get("_digests")


def test_the_shipped_canaries_are_judged_right() -> None:
    assert check_canaries(Quality(suites.load("quality-miniature"))) == 3


@pytest.mark.parametrize(
    ("measure", "by", "error", "sentence"),
    [
        ("Miniature CLIPScore", 60, None, ""),
        ("Miniature CLIPScore", 80, Refused, "of Miniature CLIPScore must score 80 more for 'a photo of a red car'"),
        # The same picture has the same sharpness whatever its prompt.
        ("Sharpness", 0.001, Refused, "of Sharpness must score 0.001 more .* and got 0, so the judge"),
        ("Diversity", 1, UsageError, "names the measure 'Diversity', which says nothing of single pictures"),
        ("HPSv2.1", 1, UsageError, "names the measure 'HPSv2.1'"),
    ],
)
def test_a_canary_may_look_at_any_measure(measure: str, by: float, error: Any, sentence: str) -> None:
    """Each measure of a panel has weights of its own, which can be wrong while the first one's are right. Measured:
    68.5 more of CLIPScore for the right caption."""
    card = suites.load("quality-miniature")
    what = {"prompt": "a photo of a red car", "above": "a photo of a blue chair", "by": by, "measure": measure}
    canary = suites.RelativeCanaryCard(image="../preference-miniature/canary-red-car.png", **what)
    judge = Quality(card.model_copy(update={"canaries": [canary]}))
    if error is None:
        assert check_canaries(judge) == 1
    else:
        with pytest.raises(error, match=sentence):
            check_canaries(judge)


def test_every_measure_with_weights_of_its_own_has_a_canary() -> None:
    """Sharpness and contrast have none, and diversity and the aesthetic head read CLIPScore's CLIP."""
    of = {getattr(canary, "measure", None) for canary in suites.load("quality").canaries}
    assert of == {None, "HPSv2.1", "ImageReward"}


def test_shipped_panels_are_about_what_is_said_of_them() -> None:
    full, small = Quality(suites.load("quality")), Quality(suites.load("quality-miniature"))
    assert [m.about.kind for m in full.panel] == [
        *("clip_score", "aesthetic", "hps", "image_reward", "sharpness", "contrast", "diversity"),
    ]
    assert [m.about.name for m in small.panel] == ["Miniature CLIPScore", "Sharpness", "Contrast", "Diversity"]
    assert [p.text for p in small.prompts()] == prompt_files.read(suites.load("preference-miniature"))
    named = {measure.about.name for measure in full.panel}
    assert {number.metric for number in full.card.published} <= named


def run(folder: Path, judges: dict[str, Any], pictures: list[np.ndarray], samples: int) -> tuple[dict[str, Any], Path]:
    """results.json and the page of a run over pictures made elsewhere."""
    from star_bench.cli.main import app

    suite, made = folder / "suite", folder / "made"
    suite.mkdir()
    made.mkdir()
    (suite / "prompts.txt").write_text("a red car\na blue chair\n")
    (made / "prompts.txt").write_text("a red car\na blue chair\n")
    said = {"name": "tiny-quality", "title": "Tiny", "summary": "x", "evaluator": "quality", "licence": "MIT"}
    content = said | {"prompts": {"path": "prompts.txt"}, "judges": judges}
    (suite / "card.yaml").write_text(yaml.safe_dump(content))
    for i in range(2):
        for k in range(samples):
            PIL.Image.fromarray(pictures[(i + k) % 3]).save(made / f"{i:05d}_{k}.png")
    places = ["--images", made, "--suite", suite, "--runs", folder, "--reports", folder / "pages"]
    app(["run", *map(str, places), "--samples", str(samples)], standalone_mode=False)
    (results,) = folder.glob("made/tiny-quality/*/results.json")
    (page,) = folder.glob("pages/*/index.html")
    return json.loads(results.read_text()), page


def test_a_run_records_identities_and_a_page_shows_numbers_only(
    tmp_path: Path, judges: dict[str, Any], pictures: list[np.ndarray]
) -> None:
    results, page = run(tmp_path, judges, pictures, samples=2)
    panel = Quality(card(judges))
    assert results["measures"] == panel.measures()
    assert [a["name"] for a in results["aggregates"]] == [m["name"] for m in results["measures"]]
    scores = [panel.score([pictures[i]], [PROMPTS[0]])[0] for i in range(3)]
    blobs = [score.detail["features"]["Diversity"] for score in scores]
    diversity = results["aggregates"][-1]
    assert diversity["n_prompts"] == 2
    pairs = [mean_distance(blobs[:2]), mean_distance(blobs[1:])]
    assert diversity["value"] == pytest.approx(np.mean(pairs), abs=1e-6)
    text = page.read_text()
    assert '"Sharpness"' in text
    assert '"features"' not in text and not any(blob[:20] in text for blob in blobs)


def test_one_image_per_prompt_has_no_diversity(tmp_path: Path, judges: dict[str, Any], pictures: Any) -> None:
    results, page = run(tmp_path, judges, pictures, samples=1)
    assert results["complete"]
    assert results["aggregates"][0]["n_images"] == 2
    assert (results["aggregates"][-1]["value"], results["aggregates"][-1]["n_prompts"]) == (None, 0)
    assert page.is_file()

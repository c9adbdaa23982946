"""What a notebook imports: real runs of the miniature and of functions, and a notebook run as Jupyter runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import PIL.Image
import pytest
from nbclient import NotebookClient

import star_bench
from star_bench.catalogue.shipped import SUITES_FOLDER
from star_bench.errors import Incomplete, Refused, UsageError
from star_bench.generation.noise import noise_seed
from star_bench.runs.finished import pictures_folder

ROOT = Path(__file__).parents[1]
SAME_PROMPTS = ["preference-miniature", "quality-miniature"]


class Drawer:
    """Confetti by the seed; it keeps what it was asked."""

    def __init__(self, fail: int | None = None) -> None:
        self.asked: list[tuple[str, int]] = []
        self.fail = fail

    def __call__(self, prompts: list[str], seeds: list[int]) -> Sequence[Any]:
        self.asked += zip(prompts, seeds, strict=True)
        if self.fail is not None and len(self.asked) > self.fail:
            raise RuntimeError("the power went out")
        return [confetti(seed) for seed in seeds]


def confetti(seed: int) -> PIL.Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return PIL.Image.fromarray(pixels.repeat(8, 0).repeat(8, 1))


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def drawn(draw: Any, suites: Sequence[str] = SAME_PROMPTS, **more: Any) -> star_bench.api.Evaluation:
    given = {"name": "confetti", "limit": 3, "reports": None, "progress": False, **more}
    return star_bench.evaluate(draw, suites, **given)


def test_the_notebook_runs_and_says_what_it_shows(tmp_path: Path) -> None:
    notebook = nbformat.read(ROOT / "docs" / "python.ipynb", as_version=4)
    NotebookClient(notebook, timeout=280, resources={"metadata": {"path": str(tmp_path)}}).execute()
    said = [output for cell in notebook.cells for output in cell.get("outputs", []) if output.output_type != "stream"]
    assert not [output for output in said if output.output_type == "error"]
    shown = [output.data.get("text/html", output.data.get("text/plain", "")) for output in said]
    assert "mean exp(logit_scale) * cosine" in shown[1] and "Miniature CLIPScore" in shown[1]
    assert "can't be compared, because they differ in origin of the images" in shown[-3]
    assert shown[-1] == "True"
    assert len(list(tmp_path.glob("runs/miniature/pictures/*/samples.jsonl"))) == 1, "of two suites"


def test_two_suites_with_the_same_prompts_draw_once() -> None:
    draw = Drawer()
    found = drawn(draw)
    assert len(draw.asked) == len(set(draw.asked)) == 3 * 2
    assert [run.summary["complete"] for run in found.runs] == [True, True]
    assert {run.summary["suite"] for run in found.runs} == set(SAME_PROMPTS)
    first, second = (pictures_folder(run.path) for run in found.runs)
    assert first == second
    # A suite that wants more of each prompt draws only those.
    drawn(draw, ["quality-miniature"], samples=3)
    assert len(draw.asked) == len(set(draw.asked)) == 3 * 3


def test_a_function_is_given_each_pictures_own_seed() -> None:
    draw = Drawer()
    run = drawn(draw, ["preference-miniature"], seed=5)["preference-miniature"]
    ids = {row["prompt_id"]: row for row in run.frame().to_dict("records")}
    assert sorted(seed for _, seed in draw.asked) == sorted(noise_seed(5, name, k) for name in ids for k in (0, 1))
    prompt, seed = draw.asked[0]
    picture = pictures_folder(run.path) / "images" / "00000" / "0.png"
    assert np.array_equal(np.asarray(PIL.Image.open(picture)), np.asarray(confetti(seed)))
    assert prompt == ids["00000"]["prompt"]


@pytest.mark.parametrize(
    "edit",
    [
        ("licence: Apache-2.0\n", "licence: MIT\n"),
        ("low: 20, high: 28", "low: 21, high: 27"),
        ("title: ", "title: Another "),
        ("commercial: true", "commercial: unknown"),
    ],
    ids=["licence", "canary", "title", "commercial"],
)
def test_words_and_canaries_of_a_card_draw_and_judge_nothing_again(tmp_path: Path, edit: tuple[str, str]) -> None:
    card = tmp_path / "preference-miniature" / "card.yaml"
    card.parent.mkdir()
    for path in (SUITES_FOLDER / "preference-miniature").iterdir():
        (card.parent / path.name).write_bytes(path.read_bytes())
    draw = Drawer()
    first = drawn(draw, [str(card)]).runs[0]
    text = card.read_text()
    old, new = edit
    if old not in text:
        pytest.fail(f"{old!r} is not in the card")
    card.write_text(text.replace(old, new))
    second = drawn(draw, [str(card)]).runs[0]
    assert len(draw.asked) == 6
    assert second.path == first.path
    assert len((first.path / "scores.jsonl").read_text().splitlines()) == 6


def test_another_version_or_seed_draws_anew_and_a_stopped_one_goes_on() -> None:
    with pytest.raises(RuntimeError, match="the power went out"):
        drawn(Drawer(fail=3), ["preference-miniature"], batch_size=2)
    draw = Drawer()
    drawn(draw, ["preference-miniature"], batch_size=2)
    assert len(draw.asked) == 3, "the first three were kept"
    drawn(draw, ["preference-miniature"], version="2")
    drawn(draw, ["preference-miniature"], seed=1)
    assert len(draw.asked) == 3 + 6 + 6


@pytest.mark.parametrize(
    ("draw", "sentence"),
    [
        (lambda prompts, seeds: [], "gave 0 pictures of 3 prompts"),
        (lambda prompts, seeds: [np.zeros((8, 8, 3))] * len(seeds), "float64: give PIL images"),
        (lambda prompts, seeds: [np.zeros((8, 8), np.uint8)] * len(seeds), r"shape \(8, 8\)"),
    ],
)
def test_a_function_that_gives_something_else_is_told(draw: Any, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        drawn(draw)


def test_slips_are_one_sentence() -> None:
    draw = Drawer()
    for given, sentence in (
        ({"model": draw, "suites": ["ocr-miniature"]}, "give name="),
        ({"model": draw, "suites": "ocr-miniature", "name": "x"}, r"give \['ocr-miniature'\]"),
        ({"model": draw, "suites": ["ocr-miniature"], "name": "x", "protocol": "flow-grpo"}, "by its own settings"),
        ({"model": "miniature", "suites": ["ocr-miniature"], "name": "x"}, "are of a function"),
        ({"model": "miniature", "suites": ["ocr-miniatur"]}, "did you mean 'ocr-miniature'"),
        ({"model": "miniature", "suites": ["ocr-miniature"] * 2}, "named twice"),
        ({"model": "miniature", "suites": ["ocr-miniature"], "settings": {"step": 3}}, "steps"),
    ):
        with pytest.raises(UsageError, match=sentence):
            star_bench.evaluate(**given)  # type: ignore[arg-type]
    assert not draw.asked and not Path("runs").exists()
    with pytest.raises(UsageError, match="there is no finished run"):
        star_bench.load_run("latest")


def test_pictures_are_judged_whatever_they_are_given_as(tmp_path: Path) -> None:
    card = SUITES_FOLDER / "preference-miniature" / "canary-red-car.png"
    image = PIL.Image.open(card)
    prompts = ["a photo of a red car"] * 3 + ["a photo of a blue chair"]
    found = star_bench.score([image, np.asarray(image), card, str(card)], prompts, suite="preference-miniature")
    assert found.values[0] == found.values[1] == found.values[2] == pytest.approx(24.0, abs=0.1)
    assert found.values[3] == pytest.approx(5.2, abs=0.1)
    assert found.summary["mean"] == pytest.approx(sum(found.values) / 4)  # type: ignore[arg-type]
    assert list(found.frame()["status"]) == ["ok"] * 4 and "a photo of a red car" in found._repr_html_()
    with pytest.raises(UsageError, match="1 pictures and 2 prompts"):
        star_bench.score([image], prompts[:2], suite="preference-miniature")
    with pytest.raises(UsageError, match="has no prompt 'a cat', and its judge goes by more than the text"):
        star_bench.score([image], ["a cat"], suite="geneval-miniature")
    geneval = star_bench.score([image, image], ["a photo of a car", "a photo of three cups"], suite="geneval-miniature")
    assert geneval.values == [1.0, 0.0]


def test_runs_are_found_listed_and_compared() -> None:
    one, other = drawn(Drawer()), drawn(Drawer(), name="other", seed=0)
    assert list(star_bench.runs()["model"]) == ["confetti", "confetti", "other", "other"]
    assert list(star_bench.runs(suite="quality-miniature")["suite"]) == ["quality-miniature"] * 2
    loaded = star_bench.load_run("confetti/quality-miniature")
    assert loaded.summary == one["quality-miniature"].summary
    found = star_bench.compare("confetti/preference-miniature", other["preference-miniature"])
    assert "the same picture" in found.summary or "No difference" in found.summary
    assert list(found.frame()["difference"]) == [0.0, 0.0]
    third = drawn(Drawer(), ["preference-miniature"], name="third", limit=2)
    with pytest.raises(Refused, match="can't be compared, because"):
        star_bench.compare(one["preference-miniature"], third["preference-miniature"])
    (third.runs[0].path / "results.json").unlink()
    with pytest.raises(Incomplete, match="has no results"):
        star_bench.load_run(third.runs[0].path)


def test_reports_are_written_where_they_are_asked_for(tmp_path: Path) -> None:
    run = drawn(Drawer(), ["preference-miniature"], reports="pages").runs[0]
    assert run.report is not None and run.report.is_file()
    assert run.report.parent.parent == Path("pages")


def test_importing_it_loads_nothing_heavy() -> None:
    code = (
        "import sys, json, star_bench; star_bench.list_models(); star_bench.list_suites(); "
        "print(json.dumps(sorted({'torch', 'pandas', 'diffusers', 'transformers', 'scipy'} & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
    assert "miniature" in star_bench.list_models() and "geneval" in star_bench.list_suites()

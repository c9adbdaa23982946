"""What is verified is what the pictures say: every way to say otherwise is found, and told from one another."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import yaml
from stores import copy_of, file_of

from star_bench.catalogue.shipped import SUITES_FOLDER
from star_bench.catalogue.suites import load
from star_bench.errors import Refused, UsageError
from star_bench.evaluators.base import Evaluator, Prompt, Score
from star_bench.evaluators.pickscore.evaluator import Preference
from star_bench.files.digests import digest_of
from star_bench.miniature.scenes import SMALL, random_scene
from star_bench.runs.bundle import pack
from star_bench.runs.manifest import PLANNED
from star_bench.runs.plan import Plan, Subject, select
from star_bench.runs.progress import Silent
from star_bench.runs.run import Options, make_evaluator, prepare
from star_bench.runs.run import run as run_suite
from star_bench.runs.scores import ScoreStore
from star_bench.runs.summary import summarise, values
from star_bench.verification.verify import Verdict, Verification, verify

SUITE = "preference-miniature"
PROMPTS = 5


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of pictures drawn by code."""
    folder = tmp_path_factory.mktemp("recorded")
    drawn = folder / "drawn"
    drawn.mkdir()
    texts = (SUITES_FOLDER / SUITE / "prompts.txt").read_text().splitlines()[:PROMPTS]
    (drawn / "prompts.txt").write_text("\n".join(texts) + "\n")
    for i in range(PROMPTS):
        for k in range(2):
            scene = random_scene(SMALL, np.random.default_rng(10 * i + k), "colors")
            PIL.Image.fromarray(scene.image).save(drawn / f"{i:05d}_{k}.png")
    return run_of(SUITES_FOLDER / SUITE, drawn, folder / "runs")


@pytest.fixture
def run(recorded: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return copy_of(recorded, tmp_path)


def checked(path: Path, *, scoring: bool = True, suite: Path | None = None) -> Verification:
    said = None if suite is None else str(suite)
    work = next(each for each in path.parents if each.name.startswith(("test_", "recorded"))) / "work"
    begin = (lambda: "cpu") if scoring else None
    return verify(path, work=work, suite=said, begin=begin, batch_size=4, bar=Silent())


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def change_rows(path: Path, change: Callable[[dict[str, Any]], None], which: int = 0) -> None:
    """Changes one row of a JSONL file."""
    found = rows(path)
    change(found[which])
    path.write_text("".join(json.dumps(row) + "\n" for row in found))


def change_json(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def replace_picture(run: Path, content: bytes, *, consistently: bool) -> str:
    """Puts another picture in the place of the first; consistently: every digest says so."""
    row = rows(file_of(run, "samples.jsonl"))[0]
    file_of(run, row["path"]).write_bytes(content)
    if consistently:
        sha256 = hashlib.sha256(content).hexdigest()
        for name in ("samples.jsonl", "scores.jsonl"):
            change_rows(file_of(run, name), lambda found: found.update(sha256=sha256))
    return str(row["path"])


def inverted(run: Path) -> bytes:
    """The first picture in the opposite colours, which are not those that its prompt names."""
    path = file_of(run, rows(file_of(run, "samples.jsonl"))[0]["path"])
    out = path.with_name("other.png")
    PIL.Image.fromarray(255 - np.asarray(PIL.Image.open(path))).save(out)
    content = out.read_bytes()
    out.unlink()
    return content


def test_a_bundle_is_equal_to_what_is_judged_here(run: Path, tmp_path: Path) -> None:
    pack(run, tmp_path / "bundle.zip")
    found = checked(tmp_path / "bundle.zip")
    assert found.verdict is Verdict.EQUAL, found.sentence
    assert found.rescored is not None
    assert (found.rescored.judged, found.rescored.same, found.rescored.largest) == (2 * PROMPTS, 2 * PROMPTS, 0)
    headline = json.loads((run / "results.json").read_text())["aggregates"][0]
    assert found.rescored.headline == headline, "value and interval to the last printed digit"
    assert found.prompts == "those of the suite" and found.pictures == 2 * PROMPTS
    assert not list((tmp_path / "work").iterdir()), "nothing is left behind"
    assert json.loads(json.dumps(found.as_dict()))["verdict"] == "equal"


def test_a_runs_directory_is_checked_and_left_as_it_is(run: Path) -> None:
    model = run.parents[1]
    before = {path: path.read_bytes() for path in model.rglob("*") if path.is_file()}
    assert checked(run).verdict is Verdict.EQUAL
    assert {path: path.read_bytes() for path in model.rglob("*") if path.is_file()} == before


def test_without_scoring_it_says_so(run: Path) -> None:
    found = checked(run, scoring=False)
    assert found.verdict is Verdict.EQUAL and "not judged again" in found.sentence and found.rescored is None


def test_a_changed_pixel_is_refused(run: Path) -> None:
    path = replace_picture(run, inverted(run), consistently=False)
    with pytest.raises(Refused, match=f"{path} is not the picture that samples.jsonl says"):
        checked(run, scoring=False)


def test_a_swapped_picture_is_refused_and_if_every_digest_was_forged_its_score_differs(run: Path) -> None:
    other = inverted(run)
    path = replace_picture(run, other, consistently=True)
    pack(run, run.parents[2] / "forged.zip")  # whose inventory is in order
    found = checked(run.parents[2] / "forged.zip")
    assert found.verdict is Verdict.DIFFERS
    assert found.rescored is not None and found.rescored.changed == 1
    (change,) = {(c.picture, c.measure) for c in found.rescored.changes if c.measure == "score"}
    assert change == (path, "score")
    assert found.rescored.same == 2 * PROMPTS - 1 and "1 otherwise" in found.sentence
    assert found.rescored.largest is not None and found.rescored.largest > 0.1


def test_a_changed_score_does_not_give_the_summary(run: Path) -> None:
    change_rows(run / "scores.jsonl", lambda row: row.update(value=row["value"] + 5))
    found = checked(run, scoring=False)
    assert found.verdict is Verdict.DIFFERS
    assert any("by the scores" in said and "results.json" in said for said in found.summary)
    assert checked(run).rescored is not None


def test_scores_and_summary_forged_together_differ_from_what_is_judged(run: Path) -> None:
    for i in range(2 * PROMPTS):
        change_rows(run / "scores.jsonl", lambda row: row.update(value=row["value"] + 1), i)
    summarise_again(run)
    assert checked(run, scoring=False).verdict is Verdict.EQUAL, "by itself it is consistent"
    found = checked(run)
    assert found.verdict is Verdict.DIFFERS and not found.summary
    assert found.rescored is not None and found.rescored.changed == 2 * PROMPTS
    assert found.rescored.largest == pytest.approx(1)


def summarise_again(run: Path) -> None:
    """What a forger does: the summary of changed scores, by the same code."""
    manifest = json.loads((run / "manifest.json").read_text())
    card = load(SUITE)
    evaluator = make_evaluator(card, "cpu")
    everything = evaluator.prompts()
    subject = Subject("drawn", manifest["model"], "not stated", foreign=True)
    prompts = select(everything, PROMPTS)
    plan = Plan(subject, card, evaluator.metric, manifest["judges"], prompts, len(everything), 2, None)
    store = ScoreStore(run)
    store.write("results.json", summarise(plan, evaluator, store.rows, canaries=2))
    store.write_rows("values.jsonl", values(plan, evaluator, store.rows))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r["aggregates"][0].update(value=r["aggregates"][0]["value"] + 1e-6), "value is"),
        (lambda r: r["aggregates"][0].update(high=99.0), "high is 99.0 in results.json"),
        (lambda r: r.update(subset=None), "subset is None in results.json"),
        (lambda r: r["aggregates"].append({**r["aggregates"][0], "name": "mine"}), "mine is"),
    ],
)
def test_a_changed_number_of_the_results_is_named(run: Path, change: Callable[[Any], None], said: str) -> None:
    change_json(run / "results.json", change)
    found = checked(run, scoring=False)
    assert found.verdict is Verdict.DIFFERS and said in found.sentence


def test_changed_values_are_named(run: Path) -> None:
    change_rows(run / "values.jsonl", lambda row: row["values"].update({next(iter(row["values"])): [1.0, 2.0]}))
    assert "[1.0, 2.0] in values.jsonl" in checked(run, scoring=False).sentence


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("manifest.json", lambda m: m.update(samples=3), "names the digest"),
        ("manifest.json", lambda m: m["judges"].update(clip="0" * 64), "names the digest"),
        ("manifest.json", lambda m: m.pop("suite"), "suite"),
        ("results.json", lambda r: r.update(digest="0" * 64), "manifest.json"),
        ("results.json", lambda r: r.update(interval="by hand"), "way of making intervals"),
        ("results.json", lambda r: r["counts"].update(ok=3), "speaks of 3"),
    ],
)
def test_changed_facts_are_refused(run: Path, name: str, change: Callable[[Any], None], said: str) -> None:
    change_json(run / name, change)
    with pytest.raises(Refused, match=said):
        checked(run, scoring=False)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("prompts.jsonl", lambda row: row.update(text="a nicer prompt"), "name other prompts"),
        ("prompts.jsonl", lambda row: row.update(tag="easy"), "is not the suite's"),
        ("samples.jsonl", lambda row: row.update(path="images/../../x.png"), "not below images/"),
        ("samples.jsonl", lambda row: row.update(path="/etc/hostname"), "not below images/"),
        ("samples.jsonl", lambda row: row.update(k=7), "was planned and has no row"),
        ("samples.jsonl", lambda row: row.update(path=None), "has a score and no picture"),
        ("scores.jsonl", lambda row: row.update(sha256="0" * 64), "is of another picture"),
        ("scores.jsonl", lambda row: row.update(detail={}), "evaluator can't read"),
    ],
)
def test_changed_rows_are_refused(run: Path, name: str, change: Callable[[Any], None], said: str) -> None:
    change_rows(file_of(run, name), change)
    with pytest.raises(Refused, match=said):
        checked(run, scoring=False)


def test_a_picture_that_is_gone_leaves_the_rest_to_check(run: Path, tmp_path: Path) -> None:
    path = rows(file_of(run, "samples.jsonl"))[0]["path"]
    file_of(run, path).unlink()
    pack(run, tmp_path / "bundle.zip")
    found = checked(tmp_path / "bundle.zip")
    assert found.verdict is Verdict.INCOMPLETE and found.absent == (path,)
    assert found.rescored is not None and found.rescored.same == found.rescored.judged == 2 * PROMPTS - 1
    assert f"1 pictures are not there, the first {path}" in found.sentence


def test_another_judge_here_is_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Preference, "judges", lambda _: {"clip": "0" * 64})
    with pytest.raises(Refused, match="the judge clip is"):
        checked(run)


def test_another_metric_here_is_refused(run: Path) -> None:
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["metric"] = "Preference [another unit], by somebody 0"
    digest = manifest["digest"] = digest_of({key: manifest[key] for key in PLANNED})
    (run / "manifest.json").write_text(json.dumps(manifest))
    change_json(run / "results.json", lambda results: results.update(digest=digest))
    with pytest.raises(Refused, match=r"the metric is Preference \[another unit\]"):
        checked(run, scoring=False)


def test_stopped_in_the_middle_it_goes_on(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack(run, tmp_path / "bundle.zip")
    judged: list[str] = []
    real = Preference.score

    def counting(self: Evaluator, images: list[np.ndarray], prompts: list[Prompt]) -> list[Score]:
        if prompts[0].id.startswith("canary"):
            return real(self, images, prompts)  # type: ignore[arg-type]
        judged.extend(p.id for p in prompts)
        if len(judged) >= 8:
            raise KeyboardInterrupt
        return real(self, images, prompts)  # type: ignore[arg-type]

    monkeypatch.setattr(Preference, "score", counting)
    with pytest.raises(KeyboardInterrupt):
        checked(tmp_path / "bundle.zip")
    assert not list((tmp_path / "work").rglob("*.png")), "only the scores are kept"
    judged.clear()
    judged.append("stands for one that was")  # so that the count of 8 is not met again
    found = checked(tmp_path / "bundle.zip")
    assert found.verdict is Verdict.EQUAL and len(judged) - 1 == 2 * PROMPTS - 5, "batches of four and one, twice"


def test_a_judge_that_fails_here_is_no_difference(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Preference.score

    def failing(self: Evaluator, images: list[np.ndarray], prompts: list[Prompt]) -> list[Score]:
        if prompts[0].id == "00000":
            raise RuntimeError("no kernel image is available")
        return real(self, images, prompts)  # type: ignore[arg-type]

    monkeypatch.setattr(Preference, "score", failing)
    found = checked(run)
    assert found.verdict is Verdict.INCOMPLETE and "8 could not be judged here (RuntimeError" in found.sentence


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not there"):
        checked(tmp_path / "nothing.zip")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="no run directory"):
        checked(tmp_path / "folder")


def test_an_incomplete_run_is_verified_as_one(recorded: Path, tmp_path: Path) -> None:
    drawn = Path(shutil.copytree(recorded.parents[3] / "drawn", tmp_path / "drawn"))
    (drawn / "00001_1.png").write_bytes(b"no picture")
    (drawn / "00002_1.png").unlink()
    found = checked(run_of(SUITES_FOLDER / SUITE, drawn, tmp_path / "runs"))
    assert found.verdict is Verdict.INCOMPLETE and not found.summary
    assert found.rescored is not None and not found.rescored.changes
    assert "only 8 of 10 images have a score" in found.sentence


def own_suite(folder: Path, **changes: Any) -> Path:
    """The suite as a user's own, with keys of its card changed."""
    shutil.copytree(SUITES_FOLDER / SUITE, folder)
    card = yaml.safe_load((folder / "card.yaml").read_text())
    (folder / "card.yaml").write_text(yaml.safe_dump(card | changes))
    return folder


def run_of(suite: Path, drawn: Path, runs: Path) -> Path:
    options = Options(suites=(str(suite),), images=drawn, limit=PROMPTS, samples=2, device="cpu", runs=runs)
    prepared = prepare(options)
    run_suite(prepared, options, Silent())
    return prepared.parts[0].folder


def test_a_suite_of_ones_own_is_named_by_whoever_verifies(recorded: Path, tmp_path: Path) -> None:
    drawn = recorded.parents[3] / "drawn"
    mine = own_suite(tmp_path / "mine", name="mine")
    run = run_of(mine, drawn, tmp_path / "runs")
    with pytest.raises(Refused, match=r"suite 'mine' is not here.*give --suite the path"):
        checked(run)
    assert checked(run, suite=mine).verdict is Verdict.EQUAL
    judges = yaml.safe_load((mine / "card.yaml").read_text())["judges"] | {"metric": "Another"}
    other = own_suite(tmp_path / "other", name="mine", judges=judges)
    with pytest.raises(
        Refused, match=r"judges\.metric of suite 'mine' is 'Miniature preference' in the run and 'Another'"
    ):
        checked(run, suite=other)


def test_a_suite_without_canaries_travels_in_the_manifest(recorded: Path, tmp_path: Path) -> None:
    shipped = {"backend": "open_clip", "metric": "Miniature preference", "weights": {"shipped": "clip"}}
    mine = own_suite(tmp_path / "mine", name="mine", canaries=[], judges=shipped)
    run = run_of(mine, recorded.parents[3] / "drawn", tmp_path / "runs")
    shutil.rmtree(mine)
    found = checked(run)
    assert found.verdict is Verdict.EQUAL and found.prompts == "not compared: the suite is not here"

"""Notices: from the evaluator's tokenizer to results.json, the page and stderr; and from a shard to its run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import PIL.Image
import pytest
import yaml

from star_bench.analysis.caveats import notices as shown
from star_bench.catalogue import suites
from star_bench.catalogue.protocol import GenerationSettings
from star_bench.evaluators.base import Cut
from star_bench.files.json import read_json
from star_bench.reporting.tables import parse_results
from star_bench.runs.notices import Notice, of_cuts
from star_bench.runs.run import Options, prepare, run
from star_bench.runs.shards import Shard, merge

SHORT, LONG = "a photo of a red car", "a photo of a red car " + "and nothing else at all " * 20


class Kept:
    """A bar that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def start(self, title: str, total: int, done: int) -> None: ...

    def advance(self, count: int) -> None: ...

    def note(self, message: str) -> None:
        self.notes.append(message)


@pytest.fixture
def long_prompts(tmp_path: Path) -> Options:
    """A card of the user's own with the miniature's preference, whose CLIP reads 20 tokens, and two pictures."""
    shipped = suites.load("preference-miniature")
    card = shipped.model_dump(mode="json", include={"title", "summary", "evaluator", "judges", "licence"})
    canary = str(shipped.folder / "canary-red-car.png")
    card |= {
        "name": "long",
        "prompts": {"path": "prompts.txt"},
        "protocol": {"samples": 1},
        "canaries": [{"image": canary, "prompt": SHORT, "low": 20, "high": 28}],
    }
    (tmp_path / "suite").mkdir()
    (tmp_path / "suite/card.yaml").write_text(yaml.safe_dump(card))
    (tmp_path / "pictures").mkdir()
    for folder in ("suite", "pictures"):
        (tmp_path / folder / "prompts.txt").write_text(f"{LONG}\n{SHORT}\n")
    for name in ("00000.png", "00001.png"):
        PIL.Image.open(canary).save(tmp_path / "pictures" / name)
    return Options(
        suites=(str(tmp_path / "suite"),), images=tmp_path / "pictures", device="cpu", runs=tmp_path / "runs"
    )


def test_prompts_that_the_judge_cuts_are_told_everywhere(long_prompts: Options) -> None:
    bar = Kept()
    prepared = prepare(long_prompts)
    (results,) = run(prepared, long_prompts, bar)
    reader = "Miniature preference reads no more than 20 tokens"
    text = f"PROMPTS CUT BY THE JUDGE: {reader}, and 1 of 2 prompts are longer (00000)"
    assert results["notices"] == [{"kind": "judge_cut", "text": text, "prompts": ["00000"]}]
    assert text in bar.notes and text in shown(parse_results(results))
    assert read_json(prepared.parts[0].folder / "manifest.json")["notices"] == results["notices"]


def test_prompts_that_the_model_cuts_are_told_everywhere(long_prompts: Options) -> None:
    """The miniature's two CLIP read 14 tokens, its T5 16."""
    options = replace(long_prompts, images=None, model="miniature", settings=GenerationSettings(steps=1))
    bar = Kept()
    (results,) = run(prepare(options), options, bar)
    found = [notice for notice in results["notices"] if notice["kind"] == "model_cut"]
    readers = (("tokenizer", 14), ("tokenizer_2", 14), ("tokenizer_3", 16))
    for notice, (name, most) in zip(found, readers, strict=True):
        reader = f"the model's {name} reads no more than {most} tokens"
        text = f"PROMPTS CUT BY THE MODEL: {reader}, and 1 of 2 prompts are longer (00000)"
        assert notice == {"kind": "model_cut", "text": text, "prompts": ["00000"]}
        assert text in bar.notes and text in shown(parse_results(results))


def test_a_run_merged_of_shards_tells_what_they_found(long_prompts: Options) -> None:
    options = long_prompts.__class__(**{**vars(long_prompts), "shard": Shard(1, 1)})
    prepared = prepare(options)
    run(prepared, options, Kept())
    merged = merge(prepared.parts[0].folder.parent.parent, Kept())
    assert [notice["prompts"] for notice in merged["notices"]] == [["00000"]]


def test_many_ids_are_counted_and_all_recorded() -> None:
    ids = [f"{i:05d}" for i in range(7)]
    (notice,) = of_cuts("judge_cut", "CUT", [Cut("CLIP", 77, ids), Cut("BLIP", 35, [])], of=9)
    assert notice == Notice(
        "judge_cut",
        "CUT: CLIP reads no more than 77 tokens, and 7 of 9 prompts are longer (00000, 00001, 00002, 00003, 00004 "
        "and 2 more)",
        tuple(ids),
    )

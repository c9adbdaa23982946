"""Where there is a device to share, the judge's networks are not on it between the canaries and scoring."""

from __future__ import annotations

from pathlib import Path

import pytest

from star_bench.catalogue.protocol import GenerationSettings
from star_bench.runs.draw import generate
from star_bench.runs.pictures import open_pictures
from star_bench.runs.progress import Silent
from star_bench.runs.run import Options, prepare
from star_bench.runs.score import begin_scores, judge
from star_bench.runs.scores import open_scores
from star_bench.runs.workers import MakePictures


@pytest.mark.parametrize("apart", [True, False])
def test_a_judge_holds_nothing_while_pictures_are_drawn(tmp_path: Path, apart: bool) -> None:
    options = Options(
        suites=("preference-miniature",),
        model="miniature",
        limit=2,
        samples=1,
        device="cpu",
        runs=tmp_path,
        settings=GenerationSettings(steps=2),
    )
    prepared = prepare(options)
    (part,) = prepared.parts
    plan, evaluator = part.plan, part.evaluator
    assert prepared.local is not None and plan.protocol is not None
    make = MakePictures(prepared.local, plan.protocol, "cpu")
    batches = plan.batches(2)

    def is_loaded() -> bool:
        return "_parts" in vars(evaluator.backend)  # type: ignore[attr-defined]

    with open_scores(part.folder) as scores, open_pictures(part.drawn) as pictures, prepared.engine as engine:
        canaries = begin_scores(plan, scores, evaluator, environment={}, source={}, apart=apart, bar=Silent())
        assert is_loaded() is not apart
        for _ in generate(batches, pictures, make, engine, Silent()):
            assert is_loaded() is not apart
        results = judge(plan, batches, batches, pictures, scores, evaluator, canaries=canaries, bar=Silent())
    assert is_loaded()
    assert results["complete"] and results["canaries"] == 2

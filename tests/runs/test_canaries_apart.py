"""Where there is a device to share, the judge's networks are not on it between the canaries and scoring."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from star_bench.runs.execute import execute, generate
from star_bench.runs.plan import Item
from star_bench.runs.progress import Silent
from star_bench.runs.run import Options, prepare
from star_bench.runs.store import open_run
from star_bench.runs.workers import MakePictures


@pytest.mark.parametrize("apart", [True, False])
def test_a_judge_holds_nothing_while_pictures_are_drawn(tmp_path: Path, apart: bool) -> None:
    options = Options(
        suite="preference-miniature", model="miniature", limit=2, samples=1, steps=2, device="cpu", runs=tmp_path
    )
    prepared = prepare(options)
    plan, judge = prepared.plan, prepared.evaluator
    assert prepared.local is not None and plan.protocol is not None
    make = MakePictures(prepared.local, plan.protocol, "cpu")
    batches = plan.batches(2)
    held: list[bool] = []

    def is_loaded() -> bool:
        return "_parts" in vars(judge.backend)  # type: ignore[attr-defined]

    with open_run(prepared.folder) as store, prepared.engine as engine:

        def produce(shown: Silent) -> Iterator[list[Item]]:
            held.append(is_loaded())
            yield from generate(batches, store, make, engine, shown)
            held.append(is_loaded())

        results = execute(
            plan,
            batches,
            store,
            judge,
            produce=produce,
            environment={},
            source={},
            bar=Silent(),
            batch_size=2,
            engine=engine,
            apart=apart,
        )
    assert held == [not apart] * 2 and is_loaded()
    assert results["complete"] and results["canaries"] == 2

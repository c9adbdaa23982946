"""The same pictures and scores whatever the batch and the order, and never those of other settings."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from engines import install, run_here
from figures import FULL, Row, publish

from star_bench.catalogue.protocol import GenerationSettings, Protocol
from star_bench.files.pictures import decode_image
from star_bench.runs.finished import pictures_folder
from star_bench.runs.nearest import nearest
from star_bench.runs.run import Options, prepare


def _pictures(run: Path) -> dict[str, np.ndarray]:
    drawn = pictures_folder(run)
    return {
        str(path.relative_to(drawn)): decode_image(path.read_bytes()) for path in sorted(drawn.glob("images/*/*.png"))
    }


def test_batch_size_and_order_change_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    limit = 20 if FULL else 4
    first, _, _ = run_here(tmp_path / "alone", batch_size=1, limit=limit)
    alone = _pictures(first)
    ways = [("local", 4), ("shuffled", 4), *([("local", 8), ("shuffled", 1), ("shuffled", 8)] if FULL else [])]
    held, largest, changed, same = 0, 0, 0, 0
    failures: list[str] = []
    for engine, size in ways:
        other, _, _ = run_here(tmp_path / f"{engine}-{size}", engine=engine, batch_size=size, limit=limit)
        wrong = []
        if (first / "results.json").read_bytes() != (other / "results.json").read_bytes():
            wrong.append(f"{engine}, batch {size}: results.json has other bytes")
        for name, picture in _pictures(other).items():
            difference = np.abs(picture.astype(int) - alone[name])
            largest, changed = max(largest, int(difference.max())), max(changed, int((difference > 0).sum()))
            same += not difference.any()
            if difference.max() > 1:
                wrong.append(f"{engine}, batch {size}: {name} differs by {difference.max()} of 255")
        held += not wrong
        failures += wrong
    publish(
        Row(
            area="runs",
            fault="batches of 1, 4 or 8, in order or shuffled",
            requirement="results.json byte-identical; no pixel differs by more than 1 of 255",
            tried=len(ways),
            held=held,
            note=f"{same} of {len(ways) * len(alone)} pictures are byte-identical; in the others at most {changed} of "
            f"{alone[min(alone)].size} values differ, by {largest}: kernels round a batch's sums otherwise. "
            "Against batches of 1. Shards and Ray, which keep the batches, give the same bytes: tests/runs/test_shards.py, "
            "tests/engines/test_ray.py",
        ),
        failures,
    )


def test_another_protocol_reuses_nothing_and_names_the_field(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    stored, _, _ = run_here(runs, limit=1)
    plan = (
        prepare(
            Options(
                suites=("ocr-miniature",),
                model="miniature",
                limit=1,
                device="cpu",
                runs=runs,
                settings=GenerationSettings(steps=4),
            )
        )
        .parts[0]
        .plan
    )
    assert plan.protocol is not None and plan.folder(runs) == stored and nearest(plan.pictures, runs) is None
    fields = [field.name for field in dataclasses.fields(Protocol)]
    failures = []
    for field in fields:
        old = getattr(plan.protocol, field)
        new = old + 1 if isinstance(old, int | float) else old + "x"
        other = dataclasses.replace(plan, protocol=dataclasses.replace(plan.protocol, **{field: new}))
        said = nearest(other.pictures, runs) or ""
        if other.folder(runs).exists() or other.pictures.folder(runs).exists():
            failures.append(f"{field}: the same folder")
        if f"differ in {field} ({old!r}, now {new!r})" not in said:
            failures.append(f"{field}: it says {said!r}")
    _, results, said = run_here(runs, limit=1, steps=3)
    assert any("differ in steps (4, now 3)" in note for note in said), said
    assert results["protocol"]["steps"] == 3
    publish(
        Row(
            area="runs",
            fault="each field of the protocol changed",
            requirement="nothing that is stored is reused, and a note names the field with both values",
            tried=len(fields),
            held=len(fields) - len({failure.split(":")[0] for failure in failures}),
            note="one more, steps, as a whole run",
        ),
        failures,
    )

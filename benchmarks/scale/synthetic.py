"""Runs that were never run: the files of whole GenEval runs, 553 prompts x 4, without their pictures.

Prompts, plan, summary and the forms of all rows are star-bench's own. What is invented is what the judge said: each
model has a quality and each prompt a difficulty, from which verdicts are drawn with a seed. The files have real sizes and
names, so that whatever reads run directories takes as long as on real ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from star_bench.catalogue import suites
from star_bench.catalogue.licences import Licensed
from star_bench.catalogue.protocol import Protocol
from star_bench.evaluators.base import Evaluator, Prompt
from star_bench.files.atomic import to_json
from star_bench.runs import summary
from star_bench.runs.draw import opening
from star_bench.runs.environment import environment
from star_bench.runs.plan import Plan, Subject
from star_bench.runs.score import planned
from star_bench.runs.workers import make_evaluator

SUITE = "geneval"
SAMPLES = 4
PROTOCOL = Protocol(40, 4.5, "", 512, 512, 128, 0, "float16", "cuda")
"""The suite's own, on a GPU."""
JUDGES = {"detector": "d" * 64, "color": "c" * 64}
STARTED = "2026-01-01T00:00:00+00:00"
"""The same in every run: nothing that is measured here looks at it."""


@dataclass(frozen=True)
class World:
    """What all runs share. difficulty: (prompts,), in logits."""

    evaluator: Evaluator
    prompts: tuple[Prompt, ...]
    difficulty: np.ndarray
    environment: dict[str, Any]


def world() -> World:
    """Nothing is loaded: prompts and aggregates are GenEval's, its judges stay where they are."""
    evaluator = make_evaluator(suites.load(SUITE), "cpu")
    prompts = tuple(evaluator.prompts())
    difficulty = np.random.default_rng(0).normal(0, 2, len(prompts))
    return World(evaluator, prompts, difficulty, environment("cpu"))


def write_run(world: World, runs: Path, number: int) -> Path:
    """The finished run of model `number`; returns its directory. Nothing is synced: it is thrown away soon."""
    name = f"model-{number:04d}"
    digest = hashlib.sha256(name.encode()).hexdigest()
    licence = Licensed("model", name, "Apache-2.0", "yes", None)
    subject = Subject(name, digest, "Apache-2.0", licences=(licence,))
    card, prompts = world.evaluator.card, world.prompts
    plan = Plan(subject, card, world.evaluator.metric, JUDGES, prompts, len(prompts), SAMPLES, PROTOCOL)
    samples, scores = _rows(plan, world, np.random.default_rng([1, number]))
    results = summary.summarise(plan, world.evaluator, scores, canaries=6)
    times = {"started": STARTED, "finished": STARTED}
    about: dict[str, Any] = {
        "environment": world.environment,
        "source": {"checkpoint": name, "place": name, "base": None, "commit": None},
    }
    asked = [{"id": p.id, "text": p.text, "tag": p.tag, "metadata": p.metadata} for p in prompts]
    values = summary.values(plan, world.evaluator, scores)
    folder, pictures = plan.folder(runs), plan.pictures.folder(runs)
    drawn = {"images_made": len(plan.items), "generation_s": 7000.0}
    what = opening(plan.pictures, batch_size=8, **about)["what"]
    _write(pictures, {**what, "sessions": [{**times, **drawn}], **about}, {"samples": samples})
    scored = {**planned(plan), "sessions": [{**times, "scoring_s": 900.0}], **about}
    _write(folder, scored, {"prompts": asked, "scores": scores.values(), "values": values})
    (folder / "results.json").write_bytes(to_json(results))
    return folder


def _write(folder: Path, manifest: dict[str, Any], files: dict[str, Iterable[Any]]) -> None:
    folder.mkdir(parents=True)
    (folder / "lock").touch()
    (folder / "manifest.json").write_bytes(to_json(manifest))
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _rows(plan: Plan, world: World, rng: np.random.Generator) -> tuple[list[dict[str, Any]], dict[Any, Any]]:
    """Of samples.jsonl and scores.jsonl. Every picture is right or wrong, and as many objects are found as were asked
    for."""
    share = 1 / (1 + np.exp(world.difficulty - rng.normal(0.5, 0.5)))
    right = rng.random((len(world.prompts), plan.samples)) < share[:, None]
    samples, scores = [], {}
    for item, passed in zip(plan.items, right.ravel().tolist(), strict=True):
        prompt_id, k = item.key
        sha256 = hashlib.sha256(f"{plan.subject.name} {prompt_id} {k}".encode()).hexdigest()
        row = {"prompt_id": prompt_id, "k": k, "sha256": sha256, "status": "ok"}
        samples.append({**row, "path": f"images/{prompt_id}/{k}.png"})
        detail = {
            "reason": "" if passed else "expected more, found fewer",
            "strict": passed,
            "partial": float(passed),
            "detections": _detections(item.prompt, rng),
        }
        scores[item.key] = {**row, "value": float(passed), "detail": detail}
    return samples, scores


def _detections(prompt: Prompt, rng: np.random.Generator) -> list[dict[str, Any]]:
    wanted: Sequence[dict[str, Any]] = prompt.metadata["include"]
    objects = [asked["class"] for asked in wanted for _ in range(asked["count"])]
    ends = rng.random((len(objects), 5)).round(6).tolist()
    return [
        {"class": name, "score": score, "box": [512 * x, 512 * y, 512 * w, 512 * h]}
        for name, (score, x, y, w, h) in zip(objects, ends, strict=True)
    ]

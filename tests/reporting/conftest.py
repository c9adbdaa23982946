"""Finished runs: a small one drawn by the miniature's code, with every way to have no score, and any number of runs
whose scores are chosen, made by the real runner.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from star_bench.catalogue.protocol import Protocol
from star_bench.catalogue.suites import load
from star_bench.evaluators.base import Aggregate, Cut, Evaluator, Metric, Prompt, Score
from star_bench.evaluators.geneval.prompts import TAGS
from star_bench.files.pictures import encode_png
from star_bench.miniature.scenes import SMALL, random_scene
from star_bench.runs.draw import opening
from star_bench.runs.pictures import open_pictures
from star_bench.runs.plan import Plan, Subject
from star_bench.runs.progress import Silent
from star_bench.runs.score import begin_scores, judge
from star_bench.runs.scores import open_scores

HOSTILE = ("</script><script>alert(1)</script>", '" onerror="alert(1)', "{{ 7 * 7 }}|`x`<img src=x onerror=alert(1)>")
STATUSES = {10: "missing", 11: "corrupt", 12: "degenerate", 13: "error"}


def entry(value: float | None, images: int, **named: str) -> dict[str, Any]:
    low, high = (None, None) if value is None else (max(value - 0.2, 0), min(value + 0.15, 1))
    return {**named, "value": value, "low": low, "high": high, "n_images": images, "n_prompts": images}


def results() -> dict[str, Any]:
    """The results.json of the run that `write_run` draws, counts and all."""
    values = (1.0, 0.6667, 0.5, 1.0, 0.3333, None)
    return {
        "schema": 1,
        "model": {"name": "miniature-sd3", "digest": "ab" * 32, "licence": "Apache-2.0"},
        "suite": "geneval-miniature",
        "title": "GenEval, miniature world",
        "metric": {
            "name": "GenEval",
            "implementation": "star-bench-miniature",
            "version": "1.0",
            "unit": "fraction correct",
            "range": [0.0, 1.0],
            "licence": "Apache-2.0",
            "paper": "https://arxiv.org/abs/2310.11513",
            "identity": "GenEval [fraction correct], star-bench-miniature 1.0",
        },
        "protocol": {
            "samples": 1,
            "steps": 40,
            "guidance_scale": 4.5,
            "negative_prompt": "",
            "height": 64,
            "width": 64,
            "max_sequence_length": 77,
            "seed": 0,
            "dtype": "float32",
            "device": "cpu",
            "scheduler": "checkpoint",
        },
        "digest": "0123456789abcdef" * 4,
        "subset": None,
        "generation": "star-bench",
        "counts": {"planned": 18, "ok": 14, "missing": 1, "corrupt": 1, "degenerate": 1, "error": 1},
        "complete": False,
        "aggregates": [
            entry(0.7123456, 14, name="overall", title="mean of the tags' means"),
            entry(0.7142857, 14, name="images", title="mean over images"),
        ],
        "tags": [entry(v, 0 if v is None else 3, tag=tag) for tag, v in zip(TAGS, values, strict=True)],
        "canaries": 6,
        "judges": {"miniature-detector": "cd" * 32},
        "interval": "95 % bootstrap over prompts, 2000 resamples, seed 0",
        "licences": [
            {"of": "model", "name": "miniature-sd3", "licence": "Apache-2.0", "commercial": "yes"},
            {"of": "judge", "name": "miniature-detector", "licence": "Apache-2.0", "commercial": "yes"},
        ],
        "published": [
            {
                "model": "SD3.5-M",
                "value": 0.63,
                "metric": "GenEval",
                "source": "https://arxiv.org/abs/2505.05470",
                "protocol": "40 steps, guidance 4.5, 512 px",
                "tags": {"single_object": 0.98, "position": 0.24},
            },
            {"model": "FLUX.1 Dev", "value": 0.66, "source": "javascript:alert(1)"},
        ],
    }


@dataclass
class Run:
    """A run directory and what it holds; change the rows and call `write`."""

    folder: Path
    hostile: tuple[str, ...] = HOSTILE
    """The texts of the first prompts."""
    failed: dict[str, int] = field(default_factory=lambda: {status: i for i, status in STATUSES.items()})
    """Status -> the only image that has it."""
    results: dict[str, Any] = field(default_factory=results)
    prompts: list[dict[str, Any]] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    scores: list[dict[str, Any]] = field(default_factory=list)

    def write(self) -> Path:
        (self.folder / "results.json").write_text(json.dumps(self.results))
        (self.folder / "manifest.json").write_text(json.dumps({"environment": {"python": "3.11.9", "torch": "2.9.0"}}))
        for name in ("prompts", "samples", "scores"):
            (self.folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in getattr(self, name)))
        return self.folder


def draw(run: Run, i: int, tag: str) -> None:
    """Prompt i with one picture and its score: every third is judged wrong, some have no score."""
    scene = random_scene(SMALL, np.random.default_rng(i), tag)
    prompt_id, status = f"{i:05d}", STATUSES.get(i, "ok")
    text = HOSTILE[i] if i < len(HOSTILE) else scene.caption
    run.prompts.append({"id": prompt_id, "text": text, "tag": tag, "metadata": scene.metadata})
    detections = [
        {"class": o.name, "score": 0.9876 - n / 50, "box": list(o.box), "color": o.color}
        for n, o in enumerate(scene.objects)
    ]
    right = i % 3 != 2
    reason = "everything that was asked for is there" if right else f"expected no {scene.objects[0].name}, found 1"
    score = {"prompt_id": prompt_id, "k": 0, "status": status, "value": float(right) if status == "ok" else None}
    failure = {"error": f"the image is {status}"}
    run.scores.append({**score, "detail": {"reason": reason, "detections": detections} if status == "ok" else failure})
    if status == "missing":
        run.samples.append({"prompt_id": prompt_id, "k": 0, "path": None, "sha256": None})
        return
    path = run.folder / "images" / prompt_id / "0.png"
    path.parent.mkdir(parents=True)
    PIL.Image.fromarray(scene.image).save(path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    if status == "corrupt":
        path.write_bytes(path.read_bytes()[:40])
    run.samples.append({"prompt_id": prompt_id, "k": 0, "path": f"images/{prompt_id}/0.png", "sha256": sha256})


def write_run(folder: Path) -> Run:
    """18 prompts, three of each GenEval tag, one 64 x 64 picture each."""
    run = Run(folder)
    for i in range(18):
        draw(run, i, TAGS[i // 3])
    run.write()
    return run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    folder = tmp_path / "run"
    folder.mkdir()
    return write_run(folder)


class Brightness(Evaluator):
    """A reward: how bright a picture is, 0 to 1."""

    metric = Metric("Brightness", "drawn", "1", "share of white", (0.0, 1.0), "MIT", "")

    def prompts(self) -> list[Prompt]:
        return []

    def cuts(self, prompts: Sequence[Prompt]) -> list[Cut]:
        return []  # it looks at pictures only

    def score(self, images: Sequence[np.ndarray], prompts: Sequence[Prompt]) -> list[Score]:
        return [Score(float(image.mean() / 255), detail={"contrast": float(image.std() / 255)}) for image in images]


class Panel(Brightness):
    """Three measures: one that is better when higher, a description, and one of whole prompts."""

    metric = Metric("Panel", "drawn", "1", "share of white", (None, None), "MIT", "")
    aggregates = (
        Aggregate("Glow", "Glow"),
        Aggregate("Contrast", "Contrast", value=lambda score: score.detail["contrast"]),
        Aggregate("Spread", "Spread", of_prompt=lambda values: max(values) - min(values) if len(values) > 1 else None),
    )

    def measures(self) -> list[dict[str, Any]]:
        about = {"kind": "drawn", "implementation": "drawn", "licence": "MIT", "paper": "", "version": "1"}
        betters = {"Glow": "higher", "Contrast": "none", "Spread": "none"}
        return [{**about, "name": name, "unit": "share", "better": better} for name, better in betters.items()]


class Tagged(Brightness):
    aggregates = (Aggregate("overall", "mean of tag means", of_tags=True),)


PROTOCOL = Protocol(14, 4.0, "", 8, 8, 16, 0, "float32", "cpu")


def drawn(value: float, contrast: float) -> np.ndarray:
    """(8, 8, 3) uint8 of that mean and standard deviation, both 0 to 1. Without contrast it counts as degenerate."""
    levels = np.repeat([value - contrast, value + contrast], 4)
    return np.broadcast_to(np.rint(255 * levels)[:, None, None], (8, 8, 3)).astype(np.uint8)


def make_run(
    folder: Path,
    values: np.ndarray,
    *,
    kind: type[Brightness] = Brightness,
    contrast: float = 0.1,
    tags: int = 1,
    model: str = "before",
    metric: Metric | None = None,
    judges: dict[str, str] | None = None,
    card: dict[str, Any] | None = None,
    prompts: Callable[[list[Prompt]], Sequence[Prompt]] = list,
    foreign: bool = False,
    **changed: Any,
) -> Path:
    """A finished run with the brightness `values` (prompts, images), through the real runner; returns its directory.

    metric, judges, card, prompts and changed (fields of the protocol) are what a test wants to be otherwise than usual.
    """
    suite = load("preference-miniature").model_copy(
        update={"name": kind.__name__.lower(), "canaries": [], **(card or {})}
    )
    evaluator = kind(suite)
    asked = prompts([Prompt(f"{i:05d}", f"prompt {i}", f"tag {i % tags}", {"n": i}) for i in range(len(values))])
    plan = Plan(
        Subject(model, f"digest of {model}", "MIT", foreign=foreign),
        suite,
        metric or evaluator.metric,
        judges or {"eye": "a" * 64},
        tuple(asked),
        len(asked),
        values.shape[1],
        None if foreign else dataclasses.replace(PROTOCOL, **changed),
    )
    batches = plan.batches(8)
    of_prompt = {prompt.id: row for prompt, row in zip(asked, values, strict=False)}
    about: dict[str, Any] = {"environment": {}, "source": {}}
    with open_scores(plan.folder(folder)) as scores, open_pictures(plan.pictures.folder(folder)) as pictures:
        canaries = begin_scores(plan, scores, evaluator, bar=Silent(), **about)
        pictures.opening(**opening(plan.pictures, batch_size=8, **about))
        pictures.add(
            pictures.save_image(item.key, encode_png(drawn(of_prompt[item.prompt.id][item.k], contrast)))
            for item in plan.items
        )
        judge(plan, batches, batches, pictures, scores, evaluator, canaries=canaries, bar=Silent())
        return scores.folder


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Path]:
    """made(values, ...) is `make_run` below tmp_path."""

    def make(values: np.ndarray, **changed: Any) -> Path:
        return make_run(tmp_path / "runs", values, **changed)

    return make


@pytest.fixture
def kinds() -> dict[str, type[Brightness]]:
    return {"reward": Brightness, "panel": Panel, "tagged": Tagged}

"""A small finished run, drawn by the miniature's code: passes, failures, and every way to have no score."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from star_bench.evaluators.geneval.prompts import TAGS
from star_bench.miniature.scenes import SMALL, random_scene

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

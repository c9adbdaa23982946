"""What GenEval's scoring costs over the detector's bare forward, alone and batch after batch as in a run, and what it
gains over a loop picture by picture.

Only ratios within one run: in each round every variant is timed once, in an order that alternates, so that what else
the machine does meets all of them alike. Before the clock starts, the loop must have judged exactly as the batch.

    python -m benchmarks.speed.geneval [--device auto|cpu|cuda] [--rounds N] [--official] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import open_clip
import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.parity.detectors import pictures, write_random
from benchmarks.speed.measuring import now, seconds, setting, spread, table
from star_bench.catalogue import suites
from star_bench.evaluators.base import Prompt, Score
from star_bench.evaluators.geneval.color import crop
from star_bench.evaluators.geneval.detection.architecture import OFFICIAL
from star_bench.evaluators.geneval.detection.detector import TransformersDetector
from star_bench.evaluators.geneval.detection.postprocess import EVERYTHING, Detections, postprocess
from star_bench.evaluators.geneval.detection.preprocess import OFFICIAL_RESIZE, prepare
from star_bench.evaluators.geneval.evaluator import GenEval
from star_bench.evaluators.geneval.filtering import THRESHOLD, keep
from star_bench.evaluators.geneval.install import install_color_judge
from star_bench.evaluators.geneval.prompts import COCO_CLASSES, TAGS
from star_bench.evaluators.geneval.published import COLOR_FILE, COLOR_MODEL
from star_bench.evaluators.geneval.verdict import DetectedObject, judge
from star_bench.files.atomic import to_json, write_atomically
from star_bench.miniature.scenes import LARGE, SMALL, random_row, random_scene
from star_bench.runs.beside import beside
from star_bench.runs.engines.base import Settings
from star_bench.runs.engines.local import LocalEngine
from star_bench.runs.run import choose_device
from star_bench.runs.workers import finished, judging, say

GOAL = 1.10
"""The project's: scoring a batch takes at most so many times the bare forward."""
MINIATURE_BATCHES = (8, 32)
OFFICIAL_BATCH = 8
IN_A_RUN = 4
"""Batches that are scored one after the other: verdicts are made beside the next one's forward (chosen here)."""
OFFICIAL_ON_CPU = {"batch": 1, "rounds": 5, "in a run": 1}  # a forward takes 10 to 20 s there
SIDE = 512  # px, as the suite's protocol generates
SURE_QUERIES = 0.05
"""Share of the random network's queries that name an object: five a picture (chosen here)."""
PARTS = ("preprocessing", "forward", "post-processing", "colour", "verdict")
LIBRARIES = ("torch", "transformers", "open-clip-torch")


@dataclass(frozen=True)
class Workload:
    """uint8 RGB pictures of one size, and what each is asked."""

    size: str
    evaluator: GenEval
    images: list[np.ndarray]
    prompts: list[Prompt]
    trained: bool
    """Else rounding, which depends on the batch, decides on some of what the detector sees."""
    in_a_run: int = IN_A_RUN

    @property
    def device(self) -> str:
        return self.evaluator.device

    @property
    def detector(self) -> TransformersDetector:
        return detector_of(self.evaluator)

    def score(self) -> list[Score]:
        return self.evaluator.score(self.images, self.prompts)

    def score_as_a_run(self) -> None:
        """The batch again and again, as `star_bench.runs.score` does it, but for files."""
        asked = list(zip(self.prompts, self.images, strict=True))
        begun = LocalEngine(Settings()).score(lambda: judging(self.evaluator, say), [asked] * self.in_a_run)
        for _ in beside(lambda batch: [finished(one) for one in batch], begun):
            pass


def detector_of(evaluator: GenEval) -> TransformersDetector:
    detector = evaluator._detector
    assert isinstance(detector, TransformersDetector)
    return detector


def miniature(device: str, batch: int) -> Workload:
    """Drawn scenes, each of which shows what it is asked, and the small judges that come with the package."""
    rng = np.random.default_rng(0)
    scenes = [random_scene(SMALL, rng, TAGS[i % len(TAGS)]) for i in range(batch)]
    evaluator = GenEval(suites.load("geneval-miniature"), device=device)
    images, prompts = [scene.image for scene in scenes], prompts_of([scene.metadata for scene in scenes])
    return Workload("miniature, 64 px", evaluator, images, prompts, trained=True)


def official_size(device: str, folder: Path) -> Workload:
    """The official networks with random weights, written to `folder`. Each picture is asked for objects that the
    detector sees in it. On a CPU no colour is asked: the random ViT-L/14 takes 1.7 GB of disk."""
    on_cpu = device == "cpu"
    write_random(folder / "detector", OFFICIAL, OFFICIAL_RESIZE)
    if not on_cpu:
        save_file(open_clip.create_model(COLOR_MODEL).state_dict(), folder / COLOR_FILE)
        install_color_judge(folder / COLOR_FILE, out=folder / "colors")
    judges = {
        "detector": {"weights": {"path": str(folder / "detector")}},
        "color": {"weights": {"path": str(folder / "colors")}, "quick_gelu": True},
    }
    evaluator = GenEval(suites.load("geneval").model_copy(update={"judges": judges}), device=device)
    images = pictures([(SIDE, SIDE)] * (OFFICIAL_ON_CPU["batch"] if on_cpu else OFFICIAL_BATCH))
    size = f"official, {SIDE} px, random weights" + (", no colours" if on_cpu else "")
    detector = detector_of(evaluator)
    make_unsure(detector, pixels_of(detector, images))
    tags = [tag for tag in TAGS if not (on_cpu and "color" in tag)]
    rng = np.random.default_rng(0)
    rows = []
    for i, seen in enumerate(detector.detect(images, [THRESHOLD] * len(images))):
        names = dict.fromkeys([*(COCO_CLASSES[label] for label in seen.labels), *COCO_CLASSES])
        rows.append(random_row(replace(LARGE, classes=tuple(names)[:2]), rng, tags[i % len(tags)]))
    in_a_run = OFFICIAL_ON_CPU["in a run"] if on_cpu else IN_A_RUN
    return Workload(size, evaluator, images, prompts_of(rows), trained=False, in_a_run=in_a_run)


def prompts_of(rows: Sequence[dict[str, Any]]) -> list[Prompt]:
    return [Prompt(f"{i:05d}", row["prompt"], row["tag"], row) for i, row in enumerate(rows)]


@torch.inference_mode()
def make_unsure(detector: TransformersDetector, pixels: Tensor) -> None:
    """Lets most queries name no object, as a trained network's do: else post-processing has far too much to do."""
    logits = detector.model(pixel_values=pixels).class_queries_logits
    lead = logits[..., :-1].amax(-1) - logits[..., -1]
    detector.model.class_predictor.bias[-1] += lead.flatten().quantile(1 - SURE_QUERIES)


def pixels_of(detector: TransformersDetector, images: Sequence[np.ndarray]) -> Tensor:
    """(B, 3, H', W') as the network takes them, on its device."""
    stacked = torch.from_numpy(np.stack(images)).to(detector.device)
    return prepare(stacked, detector.resize, detector.preprocessing).pixels


@torch.inference_mode()
def forward(detector: TransformersDetector, pixels: Tensor) -> object:
    return detector.model(pixel_values=pixels)


Judgement = tuple[bool, str, list[str]]
"""The verdict, its reason, and of each kept object its colour, where asked, and class."""


def in_a_batch(workload: Workload) -> list[Judgement]:
    return [
        (
            bool(score.value),
            score.detail["reason"],
            [f"{seen.get('color', '')} {seen['class']}" for seen in score.detail["detections"]],
        )
        for score in workload.score()
    ]


@torch.inference_mode()
def one_by_one(workload: Workload) -> list[Judgement]:
    """As the official script works, but for the four loader processes that it starts for each colour check.

    One picture at a time goes through the detector, the masks of all queries are made and scored before the threshold
    is looked at, and each object whose colour is asked goes through CLIP alone.
    """
    detector, settings = workload.detector, workload.evaluator.settings.detector
    out = []
    for image, prompt in zip(workload.images, workload.prompts, strict=True):
        ready = prepare(torch.from_numpy(image)[None].to(detector.device), detector.resize, detector.preprocessing)
        queries = detector.model(pixel_values=ready.pixels)
        (seen,) = postprocess(
            queries.class_queries_logits,
            queries.masks_queries_logits,
            padded=ready.padded,
            filled=ready.filled,
            original=(image.shape[0], image.shape[1]),
            thresholds=[EVERYTHING],
        )
        threshold = settings.counting_threshold if prompt.tag == "counting" else settings.threshold
        found = keep(seen, workload.evaluator.vocabulary.classes, threshold, settings.max_objects)
        colors = Colors(workload.evaluator, image, seen)
        verdict = judge(prompt.metadata, found, colors.of)
        objects = [thing for things in found.values() for thing in things]
        named = [f"{colors.named.get(thing.index, '')} {thing.name}" for thing in objects]
        out.append((verdict.correct, verdict.reason, named))
    return out


class Colors:
    """The colours of one picture's objects, each looked at when it is asked for."""

    def __init__(self, evaluator: GenEval, image: np.ndarray, seen: Detections) -> None:
        self.evaluator, self.image, self.seen = evaluator, image, seen
        self.named: dict[int, str] = {}

    def of(self, objects: Sequence[DetectedObject]) -> list[str]:
        for thing in objects:
            cut = crop(self.image, thing.box, self.seen.masks[thing.index])
            (votes,) = self.evaluator._color_judge.votes([thing.name], [cut])
            self.named[thing.index] = self.evaluator.vocabulary.colors[votes.argmax()]
        return [self.named[thing.index] for thing in objects]


def check(workload: Workload) -> None:
    """Both ways must judge alike; with random weights, when each picture is a batch of its own."""
    pairs = zip(workload.images, workload.prompts, strict=True)
    alone = [replace(workload, images=[image], prompts=[prompt]) for image, prompt in pairs]
    # Not in TF32, PyTorch's default for convolutions on a GPU: its rounding could decide in a trained network, too.
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        for batch in [workload] if workload.trained else alone:
            assert in_a_batch(batch) == one_by_one(batch)


def shares(workload: Workload) -> dict[str, float]:
    """One scoring of a batch taken apart: part -> its share of the whole. The clock is read at the parts' borders."""
    evaluator, detector = workload.evaluator, workload.detector
    moments: dict[str, float] = {}

    def mark(moment: str) -> None:
        assert moment not in moments, f"{moment} twice: a batch no longer goes through each part once"
        moments[moment] = now(workload.device)

    def marked(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            mark(f"{part} starts")
            result = function(*arguments)
            mark(f"{part} ends")
            return result

        return run

    with (
        patch.object(detector, "detect", marked("detector", detector.detect)),
        patch.object(evaluator, "_colors", marked("colour", evaluator._colors)),
        detector.model.register_forward_pre_hook(lambda *_: mark("forward starts")),
        detector.model.register_forward_hook(lambda *_: mark("forward ends")),
    ):
        mark("scoring starts")
        workload.score()
        mark("scoring ends")

    def between(start: str, end: str) -> float:
        return (moments[end] - moments[start]) / (moments["scoring ends"] - moments["scoring starts"])

    out = {
        "preprocessing": between("detector starts", "forward starts"),
        "forward": between("forward starts", "forward ends"),
        "post-processing": between("forward ends", "detector ends"),
        "colour": between("colour starts", "colour ends"),
    }
    return {**out, "verdict": 1 - sum(out.values())}


def measure(workload: Workload, rounds: int) -> dict[str, Any]:
    """The ratios and shares of one workload over the rounds."""
    check(workload)
    detector = workload.detector
    pixels = pixels_of(detector, workload.images)
    variants: dict[str, Callable[[], object]] = {
        "forward": lambda: forward(detector, pixels),
        "scoring": workload.score,
        "in a run": workload.score_as_a_run,
        "one by one": lambda: one_by_one(workload),
    }
    over_forward, in_a_run, over_scoring, parts = [], [], [], []
    for i in range(1 + rounds):  # the first warms up and does not count
        order = list(variants) if i % 2 else list(reversed(variants))
        took = {name: seconds(variants[name], workload.device) for name in order}
        over_forward.append(took["scoring"] / took["forward"])
        in_a_run.append(took["in a run"] / workload.in_a_run / took["forward"])
        over_scoring.append(took["one by one"] / took["scoring"])
        parts.append(shares(workload))
    return {
        "size": workload.size,
        "batch": len(workload.images),
        "rounds": rounds,
        "scoring / forward": spread(over_forward[1:]),
        "in a run / forward": spread(in_a_run[1:]),
        "one by one / scoring": spread(over_scoring[1:]),
        "shares of scoring": {part: spread([row[part] for row in parts[1:]]) for part in PARTS},
    }


def to_markdown(result: dict[str, Any]) -> str:
    def of_cases(columns: Sequence[str], figures: Callable[[dict[str, Any]], list[str]]) -> str:
        rows = [[case["size"], str(case["batch"]), *figures(case)] for case in result["cases"]]
        return table(["size", "batch", *columns], rows)

    def figure(values: dict[str, float], form: str) -> str:
        return f"{values['median']:{form}} ({values['min']:{form}} to {values['max']:{form}})"

    ratios = ("scoring / forward", "in a run / forward", "one by one / scoring")
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return (
        f"# GenEval's scoring: speed on {result['device']}\n\n"
        f"{versions}. Written by `python -m benchmarks.speed.geneval`. "
        f"Ratios of {result['clock']}: median over the rounds (smallest to largest).\n\n"
        f"Time to score a batch over that of the detector's bare forward (goal: at most {GOAL:.2f}), also in a run, where "
        f"verdicts are made beside the next batch's forward ({IN_A_RUN} batches, without files); time of the official "
        "script's way, picture by picture without pruning, over that of scoring the batch:\n\n"
        + of_cases(["rounds", *ratios], lambda case: [str(case["rounds"]), *(figure(case[r], ".2f") for r in ratios)])
        + "\nWhere the time of scoring a batch goes:\n\n"
        + of_cases(PARTS, lambda case: [figure(case["shares of scoring"][part], ".1%") for part in PARTS])
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.geneval", description=__doc__.partition("\n")[0])
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--official", action="store_true", help="also the official networks, with random weights")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    device = choose_device(options.device)
    cases = [measure(miniature(device, batch), options.rounds) for batch in MINIATURE_BATCHES]
    if options.official:
        rounds = min(options.rounds, OFFICIAL_ON_CPU["rounds"]) if device == "cpu" else options.rounds
        with TemporaryDirectory() as folder:
            cases.append(measure(official_size(device, Path(folder)), rounds))
    result = {**setting(device, LIBRARIES, {"scoring / forward": GOAL}), "cases": cases}
    text = to_markdown(result)
    sys.stdout.write(text)
    write_atomically(options.out / f"geneval-{device}.json", to_json(result))
    write_atomically(options.out / f"geneval-{device}.md", text.encode())


if __name__ == "__main__":
    main()

"""Does training teach the miniature anything? Several seeds of several recipes, and a report of their curves and pictures.

    python -m benchmarks.training [RECIPE ...] [--seeds 3] [--jobs 2] [--out reports/training-miniature]

Trainings lie in trained/, as `star-bench train` puts them; those that are finished are not done again, interrupted ones
go on. Each has one thread, so `--jobs` is how many cores are used.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from star_bench.reporting.curves import write_curves

RECIPES = ("star-geneval-mini", "flow-grpo-geneval-mini")
KEPT = ("card.json", "metrics.jsonl", "recipe.yaml")
CELL, GAP, LABEL, LINE = 96, 4, 230, 14
RIGHT, WRONG, UNJUDGED = (0, 140, 60), (190, 40, 40), (150, 150, 150)


def train(recipe: str, seed: int, trained: Path) -> Path:
    """The folder of a finished training. Raises CalledProcessError where it doesn't finish."""
    folder = trained / f"{recipe}-seed{seed}"
    if not (folder / "card.json").is_file():
        command = [sys.executable, "-m", "star_bench", "train", "--recipe", recipe, "--set", f"seed={seed}"]
        subprocess.run([*command, "--out", str(folder)], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return folder


class Evaluated:
    """An evaluation that a training left: its pictures and what the judge said of them."""

    def __init__(self, folder: Path) -> None:
        scores = next(folder.glob("*/*/scores.jsonl"))
        self.folder = scores.parent
        rows = [json.loads(line) for line in scores.read_text(encoding="utf-8").splitlines()]
        self.values = {(row["prompt_id"], row["k"]): row["value"] for row in rows}
        prompts = (self.folder / "prompts.jsonl").read_text(encoding="utf-8").splitlines()
        self.prompts = [json.loads(line) for line in prompts]
        self.samples = 1 + max(k for _, k in self.values)

    def picture(self, prompt: str, k: int) -> Image.Image:
        return Image.open(self.folder / "images" / prompt / f"{k}.png").resize((CELL, CELL), Image.Resampling.NEAREST)


def draw_pictures(trainings: Sequence[Path], file: Path, *, per_tag: int = 1) -> None:
    """The first prompts of each tag before the first training and after each one, all samples, with the verdict below."""
    evaluations = [sorted((folder / "evaluations").iterdir()) for folder in trainings]
    columns = {"before": Evaluated(evaluations[0][0])}
    columns |= {folder.name: Evaluated(of[-1]) for folder, of in zip(trainings, evaluations, strict=True)}
    before = columns["before"]
    of_tag: dict[str, list[dict[str, str]]] = {}
    for prompt in before.prompts:
        of_tag.setdefault(prompt["tag"], []).append(prompt)
    rows = [prompt for prompts in of_tag.values() for prompt in prompts[:per_tag]]
    wide, high = before.samples * (CELL + GAP) + 4 * GAP, CELL + 4 * GAP
    sheet = Image.new("RGB", (LABEL + len(columns) * wide, 2 * LINE + len(rows) * high), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(LINE)
    for c, name in enumerate(columns):
        pen.text((LABEL + c * wide, LINE / 2), name, "black", font)
    for r, prompt in enumerate(rows):
        top, words = 2 * LINE + r * high, prompt["text"].split()
        half = (len(words) + 1) // 2
        pen.text((GAP, top + CELL / 3), " ".join(words[:half]) + "\n" + " ".join(words[half:]), "black", font)
        for c, evaluated in enumerate(columns.values()):
            for k in range(evaluated.samples):
                left, value = LABEL + c * wide + k * (CELL + GAP), evaluated.values[prompt["id"], k]
                sheet.paste(evaluated.picture(prompt["id"], k), (left, top))
                colour = UNJUDGED if value is None else RIGHT if value == 1 else WRONG
                pen.rectangle((left, top + CELL + 1, left + CELL - 1, top + CELL + GAP), colour)
    sheet.save(file, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", default=RECIPES)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--trained", type=Path, default=Path("trained"))
    parser.add_argument("--out", type=Path, default=Path("reports/training-miniature"))
    asked = parser.parse_args()
    with ThreadPoolExecutor(asked.jobs) as pool:
        runs = [
            pool.submit(train, recipe, seed, asked.trained) for seed in range(asked.seeds) for recipe in asked.recipes
        ]
        folders = [run.result() for run in runs]
    page = write_curves(folders, asked.out)
    for folder in folders:
        (asked.out / "runs" / folder.name).mkdir(parents=True, exist_ok=True)
        for name in KEPT:
            shutil.copyfile(folder / name, asked.out / "runs" / folder.name / name)
    draw_pictures(folders[: len(asked.recipes)], asked.out / "pictures.png")
    print(page)  # noqa: T201


if __name__ == "__main__":
    main()

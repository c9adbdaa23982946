"""All speed benchmarks, one after the other, and README.md with each goal and whether it was met.

    python -m benchmarks.speed [--device auto|cpu|cuda] [--only PART ...] [--quick]

Every part is a module of its own and runs in a process of its own, so that none measures what another left behind.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.speed.growth import environment
from benchmarks.speed.measuring import table
from star_bench.files.atomic import write_atomically
from star_bench.runs.run import choose_device

PARTS = ("geneval", "generation", "growth", "training")
HERE = Path(__file__).parent
RESULTS = HERE / "results"


def command(part: str, device: str, *, quick: bool, out: Path) -> list[str]:
    words = [sys.executable, "-m", f"benchmarks.speed.{part}", "--device", device, "--out", str(out)]
    if not quick:
        return [*words, "--official"] if part == "geneval" else words
    return [*words, "--rounds", "1"] if part == "geneval" else [*words, "--quick"]


@dataclass(frozen=True)
class Goal:
    """at_most: whether lower is better."""

    what: str
    measured: float
    goal: float
    at_most: bool = False

    @property
    def cells(self) -> list[str]:
        met = self.measured <= self.goal if self.at_most else self.measured >= self.goal
        wanted = f"{'at most' if self.at_most else 'at least'} {self.goal:g}"
        return [self.what, f"{self.measured:.2f}", wanted, "met" if met else "missed"]


def goals(part: str, result: dict[str, Any]) -> Iterator[Goal]:
    """Of a part's results; none of a part that only shows how things grow."""
    goal = result["goal"]
    if part == "generation":
        for loop, ratio in result["miniature"]["plain loop / star-bench"].items():
            what = f"plain diffusers loop ({loop}) / star-bench, miniature"
            yield Goal(what, ratio["median"], goal["plain loop / star-bench"])
        for kind, share in ((result["network"] or {}).get("utilisation") or {}).items():
            yield Goal(f"share of a matrix product's FLOP/s ({kind})", share["median"], goal["utilisation"])
    elif part == "training":
        ratio = result["STAR / uniform"]["epoch"]["median"]
        yield Goal("STAR / uniform, an epoch", ratio, goal["STAR / uniform"], at_most=True)
        for loop, each in result["plain loop / STAR"].items():
            what = f"plain Flow-GRPO loop ({loop}) / STAR"
            yield Goal(what, each["epoch"]["median"], goal["plain loop / STAR"])
    elif part == "geneval":
        for case in result["cases"]:
            where = f"({case['size']}, batch {case['batch']})"
            for ratio, what in (("scoring / forward", "scoring"), ("in a run / forward", "scoring in a run")):
                if ratio in case:
                    measured = case[ratio]["median"]
                    yield Goal(f"{what} / bare forward {where}", measured, goal["scoring / forward"], at_most=True)


def summary() -> str:
    """README.md: what all results that are here say."""
    rows = []
    for path in sorted(RESULTS.glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        part = path.stem.partition("-")[0]
        rows += [[result["device"], *goal.cells] for goal in goals(part, result)]
    pages = " · ".join(f"[{path.stem}](results/{path.name})" for path in sorted(RESULTS.glob("*.md")))
    return (
        "# Speed\n\nWritten by `python -m benchmarks.speed [--device cuda]`. Ratios within one run, medians; intervals and "
        f"settings are on the pages: {pages}.\n\n"
        + table(["device", "what", "measured", "goal", ""], rows)
        + "\nGoals are meant for a GPU, where the model's time is everything; on a CPU the same small model runs in every "
        "variant, and there is little to gain. Where no row names a GPU, none was at hand.\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__.partition("\n")[0])
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--only", action="append", choices=PARTS, help="repeatable; by default all")
    parser.add_argument("--quick", action="store_true", help="see that everything works; writes nothing")
    options = parser.parse_args()
    device = choose_device(options.device)
    for part in options.only or PARTS:
        sys.stderr.write(f"{part}\n")
        with TemporaryDirectory() as nowhere:
            out = Path(nowhere) if options.quick else RESULTS
            subprocess.run(command(part, device, quick=options.quick, out=out), env=environment(), check=True)
    if not options.quick:
        write_atomically(HERE / "README.md", summary().encode())


if __name__ == "__main__":
    main()

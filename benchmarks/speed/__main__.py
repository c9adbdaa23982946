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
from pathlib import Path
from typing import Any

from benchmarks.speed.growth import environment
from benchmarks.speed.measuring import table
from star_bench.files import write_atomically
from star_bench.runs.run import choose_device

PARTS = ("geneval", "generation", "growth", "training")
HERE = Path(__file__).parent
RESULTS = HERE / "results"


def command(part: str, device: str, *, quick: bool) -> list[str]:
    words = [sys.executable, "-m", f"benchmarks.speed.{part}", "--device", device]
    if not quick:
        return words
    return [*words, "--rounds", "1", "--out", "/dev/null"] if part == "geneval" else [*words, "--quick"]


def goals(part: str, result: dict[str, Any]) -> Iterator[tuple[str, float, str, bool]]:
    """(what, measured, the goal, met) of a part's results."""
    if part == "generation":
        goal = result["goal"]["plain loop / star-bench"]
        for loop, ratio in result["miniature"]["plain loop / star-bench"].items():
            yield (
                f"plain diffusers loop ({loop}) / star-bench, miniature",
                ratio["median"],
                f"at least {goal:g}",
                ratio["median"] >= goal,
            )
        for kind, share in ((result["network"] or {}).get("utilisation") or {}).items():
            goal = result["goal"]["utilisation"]
            yield (
                f"share of the matrix product's FLOP/s ({kind})",
                share["median"],
                f"at least {goal:g}",
                share["median"] >= goal,
            )
    elif part == "training":
        ratio, goal = result["STAR / uniform"]["epoch"]["median"], result["goal"]["STAR / uniform"]
        yield "STAR / uniform, an epoch", ratio, f"at most {goal:g}", ratio <= goal
        for loop, each in result["plain loop / STAR"].items():
            ratio, goal = each["epoch"]["median"], result["goal"]["plain loop / STAR"]
            yield f"plain Flow-GRPO loop ({loop}) / STAR", ratio, f"at least {goal:g}", ratio >= goal
    elif part == "geneval":
        for case in result["cases"]:
            ratio, goal = case["scoring / forward"]["median"], result["goal"]["scoring / forward"]
            yield (
                f"scoring / bare forward ({case['size']}, batch {case['batch']})",
                ratio,
                f"at most {goal:g}",
                ratio <= goal,
            )


def summary() -> str:
    """README.md: what all results that are here say."""
    rows = []
    for path in sorted(RESULTS.glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        part = path.stem.partition("-")[0]
        rows += [
            [result["device"], what, f"{value:.2f}", goal, "met" if met else "missed"]
            for what, value, goal, met in goals(part, result)
        ]
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
        subprocess.run(command(part, device, quick=options.quick), env=environment(), check=True)
    if not options.quick:
        write_atomically(HERE / "README.md", summary().encode())


if __name__ == "__main__":
    main()

"""What it costs, and what breaks with many checkpoints: writes benchmarks/scale/results.json and docs/scale.md.

    python -m benchmarks.scale [--runs 1000] [--rounds 5] [--price 'H100 SXM=2.5'] [--out FOLDER] [--page FILE]

Synthetic runs are written to a temporary folder, and the commands that read many runs are timed on them as processes,
in turns with `star-bench --version`.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from string import Template
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.scale.cost import GPUS, Cost, Gpu, all_costs, checks, decode_flops
from benchmarks.scale.synthetic import SUITE, world, write_run
from benchmarks.speed.growth import environment
from benchmarks.speed.measuring import in_rounds, table
from star_bench.files.atomic import to_json, write_atomically

GOAL = 2.0  # seconds, the project's
HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "scale.md"
TEMPLATE = HERE / "page.md.template"
MANY = (10, 1_000, 100_000)  # checkpoints
PICTURE = 450_000
"""Bytes of a PNG of 512 x 512 pixels of a photograph-like picture (786,432 uncompressed); an assumption."""


def seconds(words: Sequence[str], folder: Path) -> dict[str, float]:
    """Wall clock, and CPU time, of one command as a process."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "star_bench", *words]
    subprocess.run(command, cwd=folder, env=environment(), check=True, capture_output=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"wall": wall, "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def simulate(count: int, rounds: int) -> dict[str, Any]:
    """Times of the commands on so many runs, and what they take on disk."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        shared = world()
        written = []
        for number in range(count):
            written.append(write_run(shared, folder / "runs", number))
            if number % 100 == 99:
                sys.stderr.write(f"{number + 1} of {count} runs\n")
        sizes = {path.name: path.stat().st_size for path in sorted(written[0].iterdir()) if path.is_file()}
        one, other = (str(path.relative_to(folder)) for path in (written[0], written[-1]))
        commands = {
            "--version": ["--version"],
            "ls runs": ["ls", "runs"],
            "leaderboard": ["leaderboard", SUITE],
            "compare": ["compare", one, other],
        }

        def run(words: Sequence[str], _round: int) -> dict[str, float]:
            return seconds(words, folder)

        took = in_rounds({key: partial(run, words) for key, words in commands.items()}, rounds)
        page = folder / "reports" / f"leaderboard-{SUITE}" / "index.html"
        out = {
            "runs": count,
            "rounds": rounds,
            "pictures of a run": len(shared.prompts) * 4,
            "bytes of a run without pictures": sum(sizes.values()),
            "bytes by file": sizes,
            "bytes of the page": page.stat().st_size,
            "seconds": {
                key: {kind: statistics.median(one[kind] for one in each) for kind in ("wall", "cpu")}
                for key, each in took.items()
            },
        }
        shutil.rmtree(folder / "runs")
    return out


def to_markdown(
    result: Mapping[str, Any], suites: Sequence[Cost], recipes: Sequence[Cost], gpus: Mapping[str, Gpu]
) -> str:
    """docs/scale.md."""
    simulated = result["simulation"]
    run_bytes, pictures = simulated["bytes of a run without pictures"], simulated["pictures of a run"]

    def costs(rows: Sequence[Cost], unit: str, size: float) -> str:
        def money(cost: Cost, gpu: Gpu) -> str:
            dollars = cost.hours(gpu) * gpu.dollars
            return f"{cost.hours(gpu):,.1f} h, ${dollars:,.{0 if dollars >= 100 else 2}f}"

        head = ["", "pictures", unit, *gpus]
        cells = [
            [c.name, f"{c.pictures:,}", f"{c.pflop / size:,.2f}", *(money(c, g) for g in gpus.values())] for c in rows
        ]
        return table(head, cells)

    def stored(count: int) -> list[str]:
        whole = count * (run_bytes + pictures * PICTURE)
        return [f"{count:,}", f"{count * run_bytes / 1e9:,.2f} GB", f"{whole / 1e12:,.2f} TB", f"{count * pictures:,}"]

    kinds = table(
        ["GPU", "peak, TFLOP/s", "$ per hour"], [[n, f"{g.tflops:g}", f"{g.dollars:g}"] for n, g in gpus.items()]
    )
    times = [
        [f"`{key}`", f"{each['wall']:.2f} s", f"{each['cpu']:.2f} s", "" if key == "--version" else _met(each["wall"])]
        for key, each in simulated["seconds"].items()
    ]
    counted = [
        [f"{c['side']} px", f"{c['counted']:.3f}", f"{c['reckoned']:.3f}", f"{c['ratio']:.4f}"]
        for c in result["checks"]
    ]
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        decode=f"{result['decode'] / 1e12:.2f}",
        suite_utilisation=f"{suites[0].utilisation:.0%}",
        recipe_utilisation=f"{recipes[0].utilisation:.0%}",
        gpus=kinds,
        checks=table(["picture", "counted", "by the model", "model / counted"], counted),
        suites=costs(suites, "PFLOP", 1),
        recipes=costs(recipes, "EFLOP", 1e3),
        pictures=f"{pictures:,}",
        run_mb=f"{run_bytes / 1e6:.1f}",
        run_gb=f"{(run_bytes + pictures * PICTURE) / 1e9:.1f}",
        picture_kb=f"{PICTURE / 1e3:.0f}",
        storage=table(
            ["checkpoints", "rows and results", "with pictures", "files of pictures"], [stored(n) for n in MANY]
        ),
        runs=f"{simulated['runs']:,}",
        rounds=simulated["rounds"],
        goal=f"{GOAL:g}",
        times=table(["command", "wall clock", "CPU time", "goal"], times),
        page_mb=f"{simulated['bytes of the page'] / 1e6:.1f}",
    )


def _met(wall: float) -> str:
    return "met" if wall <= GOAL else "missed"


def priced(changes: Sequence[str]) -> dict[str, Gpu]:
    """GPUS with other prices, from "NAME=DOLLARS". Raises SystemExit for what is neither."""
    gpus = dict(GPUS)
    for change in changes:
        name, _, dollars = change.rpartition("=")
        if name not in gpus:
            raise SystemExit(f"there is no GPU {name!r}: choose one of {', '.join(gpus)}")
        gpus[name] = replace(gpus[name], dollars=float(dollars))
    return gpus


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--price", action="append", default=[], metavar="GPU=DOLLARS")
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    gpus = priced(options.price)
    suites, recipes = all_costs()
    result = {
        "simulation": simulate(options.runs, options.rounds),
        "checks": checks(),
        "decode": decode_flops(512, 512),
        "gpus": {name: asdict(gpu) for name, gpu in gpus.items()},
        "suites": [asdict(cost) for cost in suites],
        "recipes": [asdict(cost) for cost in recipes],
    }
    write_atomically(options.out / "results.json", to_json(result))
    write_atomically(options.page, to_markdown(result, suites, recipes, gpus).encode())
    sys.stdout.write(f"written: {options.out / 'results.json'}, {options.page}\n")


if __name__ == "__main__":
    main()

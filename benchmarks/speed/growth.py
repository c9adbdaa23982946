"""How time and memory grow with pictures, with resolution and with workers; and what start-up and a report take.

Whole commands as processes, on the miniature with one denoising step, so that what star-bench adds is not hidden behind the
model. Memory is the peak of the process.

    python -m benchmarks.speed.growth [--device cpu] [--quick] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.speed.generation import random_sampler
from benchmarks.speed.measuring import in_rounds, seconds, setting, spread, table
from star_bench.catalogue import checkpoints
from star_bench.files.atomic import to_json, write_atomically
from star_bench.training.architecture import CLIP_TOKENS, architecture_of, transformer_flops

LIBRARIES = ("torch", "diffusers", "transformers")
SAMPLES = (2, 7, 17, 38)
"""Of each of 58 prompts: 116, 406, 986 and 2,204 pictures."""
SIDES = (256, 512, 768, 1024)
WORKERS = (1, 2, 4, 7)
PICTURES = ("pictures", "command", "ms each, generating", "ms each, scoring", "peak, MiB", "report / reading its files")
STARTS = {
    "python -c pass": ["-c", "pass"],
    "--version": ["-m", "star_bench", "--version"],
    "--help": ["-m", "star_bench", "--help"],
    "ls suites": ["-m", "star_bench", "ls", "suites"],
    "run --dry-run": ["-m", "star_bench", "run", "--model", "miniature", "--suite", "geneval-miniature", "--dry-run"],
}
PEAK = """
import atexit, sys
def tell():
    text = open("/proc/self/status").read()
    sys.stderr.write("PEAK " + text.split("VmHWM:")[1].split()[0] + "\\n")
atexit.register(tell)
sys.argv = ["star-bench", *sys.argv[1:]]
from star_bench.cli.main import main
main()
"""


def environment() -> dict[str, str]:
    """Compiled modules are kept, as they are on a user's machine."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "OMP_NUM_THREADS": "1"}


def call(folder: Path, *words: str) -> tuple[float, float]:
    """Wall-clock seconds of a star-bench command, and the peak of its memory in MiB."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *words], cwd=folder, env=environment(), capture_output=True, text=True, check=True
    )
    took = time.perf_counter() - start
    (peak,) = [line.split()[1] for line in done.stderr.splitlines() if line.startswith("PEAK ")]
    return took, int(peak) / 1024


def a_run(samples: int, *more: str) -> list[str]:
    sizes = ["--samples", str(samples), "--steps", "1", "--device", "cpu"]
    return ["run", "--model", "miniature", "--suite", "geneval-miniature", *sizes, *more]


def pictures(samples: Sequence[int]) -> list[dict[str, Any]]:
    """A whole run each, and its report again over the bare reading of its pictures."""
    out = []
    for count in samples:
        with TemporaryDirectory() as name:
            folder = Path(name)
            took, peak = call(folder, *a_run(count))
            (manifest,) = folder.glob("runs/*/*/*/manifest.json")
            (session,) = json.loads(manifest.read_text())["sessions"]
            made = session["images_made"]
            out.append(
                {
                    "pictures": made,
                    "seconds": took,
                    "ms per picture, generating": 1e3 * session["generation_s"] / made,
                    "ms per picture, scoring": 1e3 * session["scoring_s"] / made,
                    "peak, MiB": peak,
                    "report / reading": report_over_reading(manifest.parent, folder),
                }
            )
            sys.stderr.write(f"{out[-1]}\n")
    return out


def report_over_reading(run: Path, folder: Path) -> float:
    """How many times as long writing the report takes as reading all of the run's files, with their sha256."""
    from star_bench.reporting.write import write_report

    def read() -> None:
        for path in run.rglob("*"):
            if path.is_file():
                hashlib.sha256(path.read_bytes()).hexdigest()

    took = in_rounds(
        {
            "report": lambda _: seconds(lambda: write_report(run, folder / "again"), "cpu"),
            "reading": lambda _: seconds(read, "cpu"),
        },
        3,
    )
    return median(a / b for a, b in zip(took["report"], took["reading"], strict=True))


def resolutions(device: str, sides: Sequence[int]) -> list[dict[str, Any]]:
    """Seconds per picture of a random SD3 network, tiny on a CPU, beside its transformer's FLOPs, both against the first."""
    tiny = device == "cpu"
    out: list[dict[str, Any]] = []
    architecture = architecture_of(checkpoints.resolve("miniature" if tiny else "sd3.5-medium"))
    for side in sides:
        sampler = random_sampler(device, tiny=tiny, side=side, steps=2)
        draw = partial(sampler.pixels, [("00000", "a prompt", 0)])
        draw()
        took = median(seconds(draw, device) for _ in range(3))
        flops = None
        if not tiny:
            tokens = architecture.image_tokens(side, side)
            flops = transformer_flops(architecture, image_tokens=tokens, text_tokens=CLIP_TOKENS + 128, rank=0).forward
        out.append(
            {"side": side, "tokens": (side // 16) ** 2, "seconds": took, "TFLOP of a forward": flops and flops / 1e12}
        )
    for row in out:
        row["seconds / first"] = row["seconds"] / out[0]["seconds"]
    return out


def workers(counts: Sequence[int], samples: int) -> list[dict[str, Any]]:
    """Seconds of generating and scoring a run, the local engine's and Ray's with so many generation workers."""
    out = []
    for count in (0, *counts):
        with TemporaryDirectory() as name:
            more = ["--engine", "ray", "--workers", str(count)] if count else []
            took, peak = call(Path(name), *a_run(samples, *more))
            (manifest,) = Path(name).glob("runs/*/*/*/manifest.json")
            (session,) = json.loads(manifest.read_text())["sessions"]
            inside = session["generation_s"] + session["scoring_s"]
            row = {"engine": "ray" if count else "local", "workers": count or 1, "command": took, "work": inside}
            out.append({**row, "peak of the writer, MiB": peak})
    return out


def starts(rounds: int) -> dict[str, Any]:
    """CPU seconds of each command over those of `python -c pass`."""

    def run(words: Sequence[str], _round: int) -> float:
        before = os.times()
        subprocess.run([sys.executable, *words], env=environment(), capture_output=True, check=True)
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    took = in_rounds({name: partial(run, words) for name, words in STARTS.items()}, rounds)
    bare = took["python -c pass"]
    return {
        name: {"seconds": spread(each), "ratio": median(a / b for a, b in zip(each, bare, strict=True))}
        for name, each in took.items()
    }


def measure(device: str, *, quick: bool) -> dict[str, Any]:
    return {
        **setting(device, LIBRARIES, {}),
        "quick": quick,
        "cores": os.cpu_count(),
        "starts": starts(1 if quick else 7),
        "pictures": pictures((1,) if quick else SAMPLES),
        "resolutions": resolutions(device, (64, 128) if quick else SIDES),
        "workers": [] if quick else workers(WORKERS, 4),
    }


def to_markdown(result: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    made = [
        [
            f"{row['pictures']:,}",
            f"{row['seconds']:.0f} s",
            f"{row['ms per picture, generating']:.1f}",
            f"{row['ms per picture, scoring']:.1f}",
            f"{row['peak, MiB']:.0f}",
            f"{row['report / reading']:.1f}",
        ]
        for row in result["pictures"]
    ]
    sides = [
        [
            f"{row['side']} px",
            f"{row['tokens']:,}",
            f"{row['seconds']:.3f} s",
            f"{row['seconds / first']:.2f}",
            f"{row['TFLOP of a forward']:.2f}" if row["TFLOP of a forward"] else "–",
        ]
        for row in result["resolutions"]
    ]
    spread_out = [
        [
            row["engine"],
            str(row["workers"]),
            f"{row['work']:.1f} s",
            f"{row['command']:.1f} s",
            f"{row['peak of the writer, MiB']:.0f}",
        ]
        for row in result["workers"]
    ]
    begun = [
        [f"`{name}`", f"{row['seconds']['median']:.2f} s", f"{row['ratio']:.1f}"]
        for name, row in result["starts"].items()
    ]
    return (
        f"# Growth and start-up on {result['device']}\n\n"
        f"{versions}; {result['cores']} cores. Written by `python -m benchmarks.speed.growth`. Whole commands on the "
        "miniature with one denoising step. Seconds are of the wall clock where nothing else is said, and hold for this "
        "machine only; what matters is how they grow.\n\n"
        "## Pictures\n\n"
        + table(
            [
                "pictures",
                "command",
                "ms each, generating",
                "ms each, scoring",
                "peak, MiB",
                "report / reading its files",
            ],
            made,
        )
        + "\n## Resolution\n\nA picture of a random SD3 network"
        + (" of three small layers" if result["device"].startswith("CPU") else "")
        + ", two steps with guidance, decoded.\n\n"
        + table(["picture", "image tokens", "time", "over the first", "TFLOP of a forward"], sides)
        + "\n## Workers\n\n232 pictures. The work: generating and scoring, which Ray does side by side. More workers than "
        "cores gain nothing.\n\n"
        + table(["engine", "workers", "work", "command", "peak of the writer, MiB"], spread_out)
        + "\n## Start-up\n\nCPU time of whole processes, median of rounds.\n\n"
        + table(["command", "CPU time", "over python's own"], begun)
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.growth", description=__doc__.partition("\n")[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of the resolutions")
    parser.add_argument("--quick", action="store_true", help="as small as can be, to see that it works; writes nothing")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    result = measure(options.device, quick=options.quick)
    text = to_markdown(result)
    sys.stdout.write(text)
    if not options.quick:
        write_atomically(options.out / f"growth-{options.device}.json", to_json(result))
        write_atomically(options.out / f"growth-{options.device}.md", text.encode())


if __name__ == "__main__":
    main()

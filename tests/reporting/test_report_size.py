"""A whole GenEval run, 553 prompts with four pictures of 512 px: its report reads no picture
more often than it must, and takes no more memory than promised."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
import pytest

from star_bench.evaluators.geneval.mask import encode

if TYPE_CHECKING:
    from conftest import Run

PROMPTS, SAMPLES, SIDE = 553, 4, 512
MEASURED = """
import sys
from pathlib import Path
sys.path.append(sys.argv[3])
from audit import opened
from star_bench.reporting.write import write_report
with opened(Path(sys.argv[1]) / "images") as read:
    write_report(Path(sys.argv[1]), Path(sys.argv[2]))
# Not ru_maxrss, which begins with that of the process that started this one.
print(len(read), int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024)
"""


def enlarge(run: Run) -> None:
    """Makes it a run of that size. All rows name one picture, grainy as a photo: a report's cost is that of any pictures."""
    for rows in (run.prompts, run.samples, run.scores):
        rows.clear()
    count = PROMPTS * SAMPLES
    run.results["counts"] = {"planned": count, "ok": count}
    rng = np.random.default_rng(0)
    smooth = PIL.Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).resize((SIDE, SIDE))
    grain = np.asarray(smooth, np.int16) + rng.integers(-6, 7, (SIDE, SIDE, 3))
    path = run.folder / "images/one.png"
    PIL.Image.fromarray(grain.clip(0, 255).astype(np.uint8)).save(path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    y, x = np.mgrid[:SIDE, :SIDE]
    box = np.array([100, 80, 300, 400], np.float32)
    mask = encode(((x - 200) / 100) ** 2 + ((y - 240) / 160) ** 2 < 1, box)
    seen = [{"class": "bench", "score": 0.9, "box": box.tolist(), "mask": mask}] * 4
    for i in range(PROMPTS):
        key = f"{i:05d}"
        run.prompts.append({"id": key, "text": f"a photo of bench {i}", "tag": "counting"})
        for k in range(SAMPLES):
            run.samples.append({"prompt_id": key, "k": k, "path": "images/one.png", "sha256": sha256})
            detail = {"reason": "expected bench>=2, found 1", "detections": seen}
            run.scores.append({"prompt_id": key, "k": k, "status": "ok", "value": float(k % 2), "detail": detail})


@pytest.mark.slow
def test_a_report_of_all_of_geneval_reads_each_picture_once_within_400_megabytes(run: Run, tmp_path: Path) -> None:
    enlarge(run)
    out = tmp_path / "report"
    try:
        command = [sys.executable, "-c", MEASURED, str(run.write()), str(out), str(Path(__file__).parents[1])]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        read, megabytes = map(float, said.split())
        assert len(list(out.glob("thumbnails/*/*.jpg"))) == PROMPTS * SAMPLES
        assert read == PROMPTS * SAMPLES and megabytes < 400
        assert (out / "index.html").stat().st_size < 10e6
    finally:
        shutil.rmtree(out, ignore_errors=True)  # a gigabyte

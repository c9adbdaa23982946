"""A person's own pictures, one of which kills the reader: `star-bench ocr read`."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import PIL.Image

from star_bench.errors import Incomplete


def test_what_could_not_be_read_is_said_after_the_rest(tmp_path, odd_path):
    for name, code in (("dies.png", 1), ("reads.png", 50)):
        PIL.Image.fromarray(np.full((2, 3, 3), code, np.uint8)).save(tmp_path / name)
    done = subprocess.run(
        [sys.executable, "-m", "star_bench", "ocr", "read", "dies.png", "reads.png", "--recogniser", "odd", "--json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(odd_path)},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == Incomplete.exit_code
    assert json.loads(done.stdout) == [
        {"image": "dies.png", "read": None, "implementation": "odd reader 1"},
        {"image": "reads.png", "read": ["3x2", "50"], "implementation": "odd reader 1"},
    ]
    assert "1 of 2 pictures could not be read (dies.png: the reader's process ended with exit code 7)" in done.stderr

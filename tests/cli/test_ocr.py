"""`star-bench ocr` as a user meets it: what is read, what is scored without a model, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import pytest

from star_bench.errors import UsageError
from star_bench.evaluators.ocr.evaluator import drawn_word

Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """cli("read", IMAGE) is `star-bench ocr read IMAGE` in an empty folder."""

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "star_bench", "ocr", *words],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )

    return call


def test_read(cli: Cli, tmp_path: Path) -> None:
    PIL.Image.fromarray(drawn_word("STAR", 96)).save(tmp_path / "word.png")
    PIL.Image.new("L", (96, 96), 200).save(tmp_path / "blank.jpg")
    done = cli("read", "word.png", "blank.jpg", "--upscale", "2", "--json")
    assert done.returncode == 0, done.stderr
    word, blank = json.loads(done.stdout)
    assert (word["image"], word["read"]) == ("word.png", ["STAR"])
    assert (blank["image"], blank["read"]) == ("blank.jpg", [])
    assert word["implementation"].startswith("rapidocr PP-OCRv6_det_small + PP-OCRv6_rec_small, x2 bicubic 3.")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("word.png", "absent.png"), "absent.png can't be read"),
        (("notes.txt",), "notes.txt can't be read"),
        (("word.png", "--recogniser", "rapidocrr"), "did you mean 'rapidocr'"),
        (("word.png", "--upscale", "9"), "--upscale"),
        ((), "Missing argument"),
    ],
)
def test_read_refuses_before_it_loads(cli: Cli, tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    PIL.Image.fromarray(drawn_word("STAR", 96)).save(tmp_path / "word.png")
    (tmp_path / "notes.txt").write_text("no picture")
    done = cli("read", *words)
    assert (done.returncode, done.stdout) == (UsageError.exit_code, "")
    assert says in done.stderr and "Traceback" not in done.stderr


READINGS = """\
{"prompt": "a sign \\"Open Late\\"", "read": ["OPEN", "late"], "image": "a.png"}
{"prompt": "a sign \\"Open Late\\"", "read": ["OPEN"]}
{"prompt": "a \\"é\\"", "read": []}
"""


def test_rescore(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "readings.jsonl").write_text(READINGS)
    done = cli("rescore", "readings.jsonl", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "images": 3,
        "accuracy": 0.5,
        "exact": pytest.approx(1 / 3),
        "rows": [
            {"target": "Open Late", "read": ["OPEN", "late"], "distance": 0, "accuracy": 1.0},
            {"target": "Open Late", "read": ["OPEN"], "distance": 4, "accuracy": 0.5},
            {"target": "é", "read": [], "distance": 1, "accuracy": 0.0},
        ],
    }
    table = cli("rescore", "readings.jsonl").stdout
    assert "Open Late" in table and "accuracy" in table and "0.5" in table


def test_rescore_loads_no_model() -> None:
    code = (
        "import sys; sys.argv = ['star-bench', 'ocr', 'rescore', '/dev/stdin', '--json']\n"
        "from star_bench.cli.main import main; main()\n"
        "print(sorted({'torch', 'onnxruntime', 'rapidocr'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], input=READINGS, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "can't be read"),
        (b"", "readings.jsonl is empty"),
        (b"\xff", "readable UTF-8"),
        (b'{"prompt": "a \\"b\\"", "read": []}\n\n{"prompt"', "line 3: invalid JSON"),
        (b'{"prompt": "a \\"b\\"", "read": "b"}', "line 1: read: 'b' is no list"),
        (b'{"prompt": "a \\"b\\"", "read": [1]}', "line 1: read.0: 1 is no text"),
        (b'{"read": []}', "line 1: prompt: it is missing"),
        (b'{"prompt": "a \\"b\\"", "read": []}\n{"prompt": "a b", "read": []}', "line 2: the prompt holds 0 straight"),
        (b"[]", "readings.jsonl is empty"),
        (b"[1]", "item 1: it is no JSON object"),
    ],
)
def test_rescore_names_the_line(cli: Cli, tmp_path: Path, content: bytes | None, says: str) -> None:
    if content is not None:
        (tmp_path / "readings.jsonl").write_bytes(content)
    done = cli("rescore", "readings.jsonl")
    assert (done.returncode, done.stdout) == (UsageError.exit_code, "")
    assert says in done.stderr and "Traceback" not in done.stderr

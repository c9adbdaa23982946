"""The real default reader on rendered text."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import pytest

from star_bench.catalogue import suites
from star_bench.evaluators.base import Prompt
from star_bench.evaluators.ocr.evaluator import Ocr

WORDS = """
    about after again always animal autumn basket bridge broken butter camera castle center change circle copper corner
    dinner doctor double engine family farmer father finger flower forest friend garden gentle ground guitar hammer
    harbor history island jacket kettle ladder letter market middle minute mirror morning mother mountain needle number
    orange palace pencil people pepper person picture planet pocket potato purple rabbit repair ribbon river school
    season second shadow silver simple sister square station stream street summer supper ticket travel tunnel valley
    village window winter wonder
""".split()


@pytest.fixture(scope="module")
def ocr() -> Ocr:
    """As the card of Flow-GRPO's suite reads."""
    return Ocr(suites.load("ocr"))


def rendered(
    text: str, size: tuple[int, int] = (512, 512), letters: int = 64, ink: str = "black", paper: str = "white"
) -> PIL.Image.Image:
    picture = PIL.Image.new("RGB", size, paper)
    font = PIL.ImageFont.load_default(letters)
    PIL.ImageDraw.Draw(picture).text((size[0] / 2, size[1] / 2), text, ink, font, anchor="mm")
    return picture


def score(ocr: Ocr, picture: PIL.Image.Image, target: str) -> float | None:
    (found,) = ocr.score([np.asarray(picture)], [Prompt("00000", f'a sign that says "{target}"')])
    return found.value


def test_clean_text(ocr):
    assert score(ocr, rendered("Grand Opening"), "Grand Opening") == 1.0
    assert score(ocr, rendered("Grand\nOpening"), "grand opening") == 1.0
    assert score(ocr, rendered("Grand Opening"), "Grand Evening") == pytest.approx(1 - 2 / 12)


@pytest.mark.parametrize("degrees", [-20, 10, 30])
def test_rotated_text(ocr, degrees):
    turned = rendered("FLOWERS").rotate(degrees, PIL.Image.Resampling.BICUBIC, fillcolor="white")
    assert score(ocr, turned, "FLOWERS") == 1.0


def test_low_contrast(ocr):
    assert score(ocr, rendered("FLOWERS", ink="#8c8c8c", paper="#808080"), "FLOWERS") == 1.0


@pytest.mark.parametrize("size", [(512, 512), (1, 1), (3, 900)])
def test_an_empty_picture_says_nothing(ocr, size):
    assert score(ocr, PIL.Image.new("RGB", size, "white"), "FLOWERS") == 0.0


def test_noise_does_not_break_the_reader(ocr):
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    assert score(ocr, PIL.Image.fromarray(noise), "FLOWERS") is not None


def test_a_thousand_words(ocr):
    words = random.Random(0).choices(WORDS, k=1000)
    page = PIL.Image.new("RGB", (1000, 1800), "white")
    lines = [" ".join(words[i : i + 14]) for i in range(0, len(words), 14)]
    PIL.ImageDraw.Draw(page).text((10, 10), "\n".join(lines), "black", PIL.ImageFont.load_default(18))
    (reading,) = ocr.reader.read([np.asarray(page)])
    read = Counter(" ".join(reading.strings).split())
    assert (Counter(words) & read).total() > 900

"""A comparison's pages in a real browser, and the folder that they are in."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import Tab
from test_viewer import HOSTILE

from star_bench.analysis.runs import compare_paths
from star_bench.evaluators.base import Prompt, Score
from star_bench.reporting.comparison.pair_cards import MOST_UNCHANGED
from star_bench.reporting.comparison.write import folder_name, write_comparison

Made = Callable[..., Path]
BEFORE = ((0, 1), (1, 1), (0, 0), (1, 1))
AFTER = ((1, 1), (1, 0), (1, 1), (1, 1))


@pytest.fixture
def pair(made: Made, kinds: dict[str, Any]) -> Callable[..., tuple[Path, Path]]:
    """pair(...) are two runs of right and wrong pictures: 3 better, 1 worse, 4 unchanged, unless told otherwise."""

    class Light(kinds["reward"]):  # type: ignore[misc]
        def score(self, images: Any, prompts: Any) -> list[Score]:
            return [
                Score(
                    float(image.mean() > 127),
                    detail={
                        "reason": prompt.metadata.get("said") or ("" if image.mean() > 127 else "too dark"),
                        "detections": [{"class": "patch", "score": 0.5, "box": [0.0, 0.0, 4.0, 8.0]}],
                    },
                )
                for image, prompt in zip(images, prompts, strict=True)
            ]

    def make(before: Any = BEFORE, after: Any = AFTER, model: str = "after", **changed: Any) -> tuple[Path, Path]:
        first, second = (np.where(np.array(rows) == 1, 0.8, 0.2) for rows in (before, after))
        common = {"kind": Light, "tags": 2, **changed}
        return made(first, **common), made(second, model=model, **common)

    return make


def written(out: Path, *runs: Path, allow: tuple[str, ...] = ()) -> Path:
    return write_comparison(compare_paths(runs, allow), out)


def shown(tab: Tab) -> list[str]:
    """The changes of the cards that can be seen, in their order."""
    return tab.js("[...document.querySelectorAll('.card:not([hidden]) .badge')].map((each) => each.textContent)")


def opened(tab: Tab) -> str:
    """What is said of the pair that is open; "" where none is."""
    return tab.js("document.querySelector('.viewer').open ? document.querySelector('.about').textContent : ''")


def seen(tab: Tab, side: str) -> list[str]:
    """The captions and pictures that can be seen in the place of A or B."""
    return tab.js(
        f"[...document.querySelectorAll('.held.{side} :is(figcaption span, .layer)')]"
        ".filter((each) => each.checkVisibility())"
        ".map((each) => each.querySelector('img')?.getAttribute('src') ?? each.textContent)"
    )


def test_the_page_opens_from_a_folder_quietly(pair: Any, tab: Tab, tmp_path: Path) -> None:
    tab.open(written(tmp_path / "out", *pair()))
    assert shown(tab) == ["worse", "better", "better", "better", *["unchanged"] * 4]
    assert "3 images better, 1 worse, 4 unchanged" in tab.js("document.body.innerText")
    tab.press("j", "Enter")
    tab.settle()
    assert tab.errors == [] and tab.dialogs == []
    assert tab.requests and all(url.startswith("file:") for url in tab.requests)


def test_hostile_words_stay_words(pair: Any, tab: Tab, tmp_path: Path) -> None:
    def named(prompts: list[Prompt]) -> list[Prompt]:
        return [
            dataclasses.replace(prompt, text=text, tag=text, metadata={"said": text})
            for prompt, text in zip(prompts, HOSTILE, strict=True)
        ]

    rows = [(i % 2, 1) for i in range(len(HOSTILE))], [(1, i % 2) for i in range(len(HOSTILE))]
    runs = pair(*rows, model=HOSTILE[0], prompts=named)
    tab.open(written(tmp_path / "out", *runs))
    texts = tab.js("[...document.querySelectorAll('.card .prompt')].map((prompt) => prompt.textContent)")
    assert {text.strip() for text in texts} == {text.strip() for text in HOSTILE}
    assert HOSTILE[0] in tab.js("document.querySelector('.sides').textContent")
    tab.press("j", "Enter")
    for _ in texts[1:]:
        assert any(text.strip() in opened(tab) for text in HOSTILE)
        tab.press("j")
    assert tab.errors == [] and tab.dialogs == [] and all(url.startswith("file:") for url in tab.requests)


def test_filters_and_order(pair: Any, tab: Tab, tmp_path: Path) -> None:
    index = written(tmp_path / "out", *pair())
    tab.open(index)
    tab.press("2")
    assert shown(tab) == ["worse"]
    tab.press("3")
    assert shown(tab) == ["better"] * 3
    assert tab.js("location.hash") == "#verdict=better"
    tab.press("1")
    tab.js("document.querySelector('select[name=order]').value = 'risen'")
    tab.js("document.querySelector('.tools').dispatchEvent(new Event('input'))")
    assert shown(tab) == ["better"] * 3 + ["worse"] + ["unchanged"] * 4
    tab.open(f"{index.as_uri()}#tag=tag+1&q=prompt+1")
    tab.settle()
    assert shown(tab) == ["worse", "unchanged"]


def test_keys_enlarge_and_blink(pair: Any, tab: Tab, tmp_path: Path) -> None:
    tab.open(written(tmp_path / "out", *pair()))
    tab.press("j", "Enter")
    words = opened(tab)
    assert words.startswith("worse") and "too dark" in words and "A before" in words and "B after" in words
    (name_a, a), (name_b, b) = seen(tab, "a"), seen(tab, "b")
    assert (name_a, name_b) == ("A before", "B after") and a != b
    space = {"key": " ", "code": "Space", "windowsVirtualKeyCode": 32}
    tab.command("Input.dispatchKeyEvent", type="rawKeyDown", **space)
    assert seen(tab, "b") == ["A before", a] and seen(tab, "a") == ["A before", a]
    tab.command("Input.dispatchKeyEvent", type="keyUp", **space)
    assert seen(tab, "b") == ["B after", b]
    tab.press("o")
    assert seen(tab, "a") == [] and seen(tab, "b") == ["B after", b]
    tab.press("o", "ArrowRight")
    assert seen(tab, "a") != [] and opened(tab).startswith("better")
    assert tab.js("document.querySelectorAll('.overlay rect:not(.halo)').length") == 3  # A, B, and A under B
    tab.press("b")
    assert tab.js("getComputedStyle(document.querySelector('.overlay .box')).display") == "none"
    tab.press("Escape")
    assert opened(tab) == "" and tab.js("document.activeElement.className.includes('picture')")
    assert tab.errors == []


def test_a_finger_on_b_shows_a(pair: Any, tab: Tab, tmp_path: Path) -> None:
    tab.open(written(tmp_path / "out", *pair()))
    tab.click(".card .picture")
    tab.js("document.querySelector('.held.b .stage').dispatchEvent(new PointerEvent('pointerup', {bubbles: true}))")
    x, y = tab.js("(() => { const r = document.querySelector('.held.b .stage').getBoundingClientRect();"
                  "return [r.x + r.width / 2, r.y + r.height / 2]; })()")  # fmt: skip
    tab.command("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, button="left", clickCount=1)
    assert seen(tab, "b")[0] == "A before"
    tab.command("Input.dispatchMouseEvent", type="mouseReleased", x=x, y=y, button="left", clickCount=1)
    assert seen(tab, "b")[0] == "B after"


def test_it_fits_a_phone(pair: Any, tab: Tab, tmp_path: Path) -> None:
    tab.size(390, 844, phone=True)
    tab.open(written(tmp_path / "out", *pair()))
    assert tab.js("document.documentElement.scrollWidth") == 390
    tab.js("document.querySelector('.card .picture').click()")
    assert tab.js("document.querySelector('.viewer').scrollWidth") <= 390


def test_waived_differences_stand_at_the_top(pair: Any, tab: Tab, tmp_path: Path) -> None:
    first, _ = pair()
    _, second = pair(steps=3)
    tab.open(written(tmp_path / "out", first, second, allow=("steps",)))
    assert tab.js("document.querySelector('.notices p').textContent") == (
        "WAIVED (protocol): they differ in steps (14 in the first and 3 in the second)"
    )


def test_several_comparisons_have_an_overview(pair: Any, made: Made, tab: Tab, tmp_path: Path) -> None:
    before, after = pair()
    _, third = pair(after=BEFORE, model="third")
    out = tmp_path / "out"
    tab.open(written(out, before, after, third))
    assert len(tab.js("[...document.querySelectorAll('.line h3')].map((each) => each.textContent)")) == 2
    tab.js("document.querySelectorAll('.line a')[1].click()")
    tab.until("document.querySelector('.gallery') !== null")
    assert "third made the same pictures as before" in tab.js("document.querySelector('h1').textContent")
    assert tab.errors == [] and all(url.startswith("file:") for url in tab.requests)
    assert len(list((out / "pictures").iterdir())) == 3  # the baseline's pictures are there once


def test_unchanged_pictures_are_a_sample_and_changed_ones_all_there(pair: Any, tmp_path: Path) -> None:
    prompts = 2 * MOST_UNCHANGED
    before = [(1,)] * prompts
    after = [(int(i % 4 != 0),) for i in range(prompts)]
    out = tmp_path / "out"
    written(out, *pair(before, after))
    kept = {path.parent.name for path in (out / "pictures").glob("*/images/*/*.png")}
    changed = {f"{i:05d}" for i in range(0, prompts, 4)}
    assert changed < kept and len(kept) == len(changed) + MOST_UNCHANGED
    assert max(kept - changed) > f"{prompts - 8:05d}"  # spread over the whole suite


def test_the_folder_can_be_put_anywhere(pair: Any, tmp_path: Path) -> None:
    index = written(tmp_path / "out", *pair())
    assert {path.name for path in index.parent.iterdir()} == {
        "index.html", "compare.csv", "compare.json", "compare.md", "flips.csv", "pictures",
    }  # fmt: skip
    assert str(tmp_path) not in index.read_text()


def test_the_folders_name_tells_runs_apart_and_holds_no_path(pair: Any) -> None:
    names = [folder_name(compare_paths(pair(model="../a b/c", steps=steps))) for steps in (14, 15)]
    assert names[0] != names[1] and all(name.startswith("compare-before-..-a-b-c-") for name in names)
    assert not any("/" in name for name in names)


def test_a_description_that_moved_is_coloured_as_neither_good_nor_bad(
    made: Made, kinds: dict[str, Any], tab: Tab, tmp_path: Path
) -> None:
    values = np.random.default_rng(0).uniform(0.4, 0.6, (10, 2))
    before = made(values, kind=kinds["panel"], contrast=0.1)
    after = made(values + 0.05, kind=kinds["panel"], contrast=0.2, model="after")
    tab.open(written(tmp_path / "out", before, after))
    rows = tab.js("[...document.querySelectorAll('.differences tbody tr')].map((row) => row.className.split(' ')[1])")
    assert rows[:2] == ["risen", "moved"]

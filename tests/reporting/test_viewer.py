"""A run's page in a real browser: it opens from a folder, tells nobody, and does what its keys and filters say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from chromium import Tab
from figures import Row, publish

from star_bench.reporting.write import write_report

if TYPE_CHECKING:
    from conftest import Run

HOSTILE = (
    "</script><script>alert(1)</script>",
    "<script>alert(1)</script>",
    "<ScRiPt src=https://evil.example/x.js></sCrIpT>",
    "<!--<script>alert(1)//-->",
    "]]><script>alert(1)</script>",
    '" onerror="alert(1)',
    "' onmouseover='alert(1)' x='",
    '"><img src=x onerror=alert(1)>',
    "<svg/onload=alert(1)>",
    "<svg><animate onbegin=alert(1) attributeName=x dur=1s>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<iframe src=javascript:alert(1)></iframe>",
    "<a href=javascript:alert(1)>click</a>",
    "javascript:alert(document.domain)",
    "data:text/html,<script>alert(1)</script>",
    "<base href=https://evil.example/>",
    "<meta http-equiv=refresh content='0;url=https://evil.example/'>",
    "<link rel=stylesheet href=https://evil.example/x.css>",
    "<style>@import 'https://evil.example/x.css';*{display:none}</style>",
    "<form action=https://evil.example/><input autofocus onfocus=alert(1)>",
    "<details open ontoggle=alert(1)>",
    "{{ 7 * 7 }} {% raw %} ${7*7} #{7*7} <%= 7*7 %>",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "`-alert(1)-` ${alert(1)} \\u003cscript\\u003ealert(1)\\u003c/script\\u003e",
    "';alert(1);// \\'; alert(1); // \\\\",
    "first\u2028alert(1)\u2029second",
    "bidi \u202egnp.tpircs\u202c \u2066left\u2069 \u200f\u05d0",
    "\ufeff\u200bzero width \U0001f468\u200d\U0001f469\u200d\U0001f467 Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤",
    "&lt;script&gt;alert(1)&lt;/script&gt; &amp;#60;",
    "<math><mtext></p><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=alert(1)&gt;'>",
)


def shown(tab: Tab) -> list[str]:
    """The prompts of the cards that can be seen, in their order."""
    return tab.js("[...document.querySelectorAll('.card:not([hidden]) .prompt')].map((prompt) => prompt.textContent)")


def opened(tab: Tab) -> str:
    """What the viewer says about the image that is open; "" where none is."""
    return tab.js("document.querySelector('.viewer').open ? document.querySelector('.about').textContent : ''")


def page(run: Run) -> Path:
    return write_report(run.write(), run.folder / "report")


def test_the_page_opens_from_a_folder_quietly_and_asks_for_its_own_files_only(run: Run, tab: Tab) -> None:
    index = page(run)
    tab.open(index)
    assert len(shown(tab)) == 18
    tab.js("document.querySelector('.card:last-child').scrollIntoView()")
    tab.until("[...document.images].every((image) => image.complete && image.naturalWidth)")
    assert tab.errors == []
    assert tab.requests[0] == index.as_uri()
    assert all(address.startswith((index.parent / "images").as_uri()) for address in tab.requests[1:])


def test_thirty_hostile_prompts_run_nothing_and_show_as_text(run: Run, tab: Tab) -> None:
    while len(run.prompts) < len(HOSTILE):
        n = len(run.prompts)
        run.prompts.append({**run.prompts[0], "id": f"{n:05d}"})
        run.samples.append({**run.samples[0], "prompt_id": f"{n:05d}"})
        run.scores.append({**run.scores[0], "prompt_id": f"{n:05d}"})
    run.results["counts"].update(planned=len(HOSTILE), ok=14 + len(HOSTILE) - 18)
    for prompt, score, text in zip(run.prompts, run.scores, HOSTILE, strict=True):
        prompt.update(text=text, tag=text)
        # What judges say comes from pictures and other people's weights, and is no more to be trusted.
        score["detail"] = {"reason": text, "note": text, "target": text, "read": [text, "x"]}
    tab.open(page(run))
    assert shown(tab) == list(HOSTILE)
    for text in HOSTILE:
        tab.js(
            f"[...document.querySelectorAll('.card')].find((c) => c.textContent.includes({json.dumps(text)})).click()"
        )
        assert opened(tab).count(text) >= 3
        assert tab.js("document.querySelector('.viewer :is(script, iframe, style, link, base, meta, form)')") is None
        tab.press("Escape")
    tab.js("document.querySelector('select[name=tag]').value = document.querySelector('option:nth-child(3)').value")
    tab.js("document.querySelector('.tools').dispatchEvent(new Event('input'))")
    assert shown(tab) == [HOSTILE[1]]
    tab.js("location.hash = '#tag=' + encodeURIComponent('<img src=x onerror=alert(1)>') + '&image=%3Cscript%3E/0'")
    tab.until("document.querySelectorAll('.card:not([hidden])').length === 30")
    assert (tab.dialogs, tab.errors) == ([], [])
    assert all(address.startswith("file:") for address in tab.requests)
    assert tab.js("document.querySelectorAll('script').length") == 2
    requirement = "no script runs, no request leaves, each shows as text"
    publish(Row("inputs", "hostile prompts in the HTML page, in a browser", requirement, len(HOSTILE), len(HOSTILE)))


def test_filters_leave_what_they_say(run: Run, tab: Tab) -> None:
    tab.open(page(run))
    tab.press("3")  # all, passed, failed
    assert tab.js("document.querySelector('[name=verdict]:checked').value") == "failed"
    failed = [row["prompt_id"] for row in run.scores if row["value"] == 0]
    texts = {prompt["id"]: prompt["text"] for prompt in run.prompts}
    assert shown(tab) == [texts[name] for name in failed]
    assert tab.js("document.querySelector('output').textContent") == f"{len(failed)} of 18 shown"
    tab.press("1")
    tab.press("/")
    word = texts["00003"].split()[-1]
    tab.press(*word)
    assert shown(tab) == [text for text in texts.values() if word in text.lower()]
    tab.press("3", "Escape")  # a digit that is typed is no filter
    assert shown(tab) == []
    assert tab.js("!document.querySelector('.nothing').hidden")
    tab.click("button[name=all]")
    assert len(shown(tab)) == 18


def test_keys_walk_open_and_close(run: Run, tab: Tab) -> None:
    tab.open(page(run))
    focused = "[...document.querySelectorAll('.card')].findIndex((card) => card.contains(document.activeElement))"
    tab.press("j")
    assert tab.js(focused) == 0
    tab.press("j", "ArrowRight", "k")
    assert tab.js(focused) == 1
    tab.press("ArrowDown")
    across = tab.js("getComputedStyle(document.querySelector('.gallery')).gridTemplateColumns.split(' ').length")
    assert tab.js(focused) == 1 + across
    tab.press("Home", "Enter")
    assert run.prompts[0]["text"] in opened(tab)
    tab.press("ArrowRight")
    assert run.prompts[1]["text"] in opened(tab)
    tab.press("End", "j")  # the last has no next
    assert run.prompts[17]["text"] in opened(tab)
    assert tab.js("document.querySelector('.viewer').contains(document.activeElement)")
    tab.press("Escape")
    assert opened(tab) == ""
    tab.until(f"{focused} === 17")  # the dialog says that it was closed a moment after it was
    assert tab.js("document.querySelectorAll('.picture[tabindex=\"0\"]').length") == 1
    tab.press("?")
    assert tab.js("document.querySelector('.keys').open")
    tab.press("Escape", "f")
    assert tab.js("document.activeElement.name") == "verdict"
    assert tab.errors == []


def test_a_picture_that_is_not_there_opens_too_and_says_why(run: Run, tab: Tab) -> None:
    tab.open(page(run))
    number = run.failed["missing"]
    tab.press("j", *["j"] * number, "Enter")
    assert "the image is missing" in opened(tab) and "no score" in opened(tab)
    assert tab.js("document.querySelector('.stage').textContent") == "missing"
    tab.press("ArrowRight", "ArrowLeft")
    assert "the image is missing" in opened(tab)


def test_boxes_masks_and_votes_are_drawn_and_switched(run: Run, tab: Tab) -> None:
    seen = [
        {"class": "cup", "score": 0.9, "box": [8, 8, 12, 11], "mask": {"size": [3, 4], "counts": "12100000"}},
        {"class": "car", "color": "red", "score": 0.8, "box": [20, 20, 40, 40], "votes": {"red": 0.75, "pink": 0.2}},
    ]
    run.scores[0]["detail"] = {"reason": "", "detections": seen}
    tab.open(page(run))
    tab.press("j", "Enter")
    # Column by column: one row without, two with.
    assert (
        tab.js("document.querySelector('.mask .fill').getAttribute('d')")
        == "M0 1h1v2h-1zM1 1h1v2h-1zM2 1h1v2h-1zM3 1h1v2h-1z"
    )
    assert tab.js("document.querySelector('.mask').getAttribute('transform')") == "translate(8 8) scale(1 1)"
    assert tab.js("[...document.querySelectorAll('.votes dt, .votes dd')].map((e) => e.textContent)") == [
        "red", "0.750", "pink", "0.200",
    ]  # fmt: skip
    visible = "['.box', '.mask'].map((kind) => getComputedStyle(document.querySelector(kind)).display !== 'none')"
    assert tab.js(visible) == [True, True]
    tab.press("b")
    assert tab.js(visible) == [False, True]
    tab.press("m", "b")
    assert tab.js(visible) == [True, False]
    assert tab.js("document.querySelector('[name=masks]').getAttribute('aria-pressed')") == "false"
    tab.click(".detections li:nth-child(2) button")
    assert tab.js("[...document.querySelectorAll('.seen')].map((each) => each.matches('.dim'))") == [True, False]


def test_read_text_is_aligned_with_what_was_asked(run: Run, tab: Tab) -> None:
    run.results["metric"]["name"] = "OCR accuracy"
    run.scores[0].update(value=0.5, detail={"target": "Hot Cafe", "read": ["HOTT", "CAE"], "distance": 2})
    tab.open(page(run))
    assert tab.js("document.querySelector('.card .note').textContent") == "read HOTTCAE"
    tab.press("j", "Enter")
    pairs = tab.js(
        "[...document.querySelectorAll('.pair:not(.names)')].map((p) => [...p.children].map((c) => c.textContent))"
    )
    assert [pair[:2] for pair in pairs if pair[2] == ""] == [[c, c] for c in "hotcae"]
    assert sorted(pair for pair in pairs if pair[2]) == [["", "t", "+"], ["f", "", "−"]]
    assert "6 as asked" in opened(tab) and "1 missing" in opened(tab) and "1 extra" in opened(tab)


@pytest.fixture
def ranked(made: Any) -> Path:
    """Four prompts, three images each, of a graded metric."""
    import numpy as np

    values = np.array([[0.5, 0.75, 0.25], [0.3, 0.2, 0.4], [0.6, 0.65, 0.7], [0.35, 0.45, 0.55]])
    folder = made(values)
    return write_report(folder, folder / "report")


def scores(tab: Tab) -> list[float]:
    """Of the cards that can be seen; a picture's brightness is only nearly what it was drawn for."""
    texts = tab.js("[...document.querySelectorAll('.card:not([hidden]) .score')].map((score) => score.textContent)")
    return [round(20 * float(text)) / 20 for text in texts]


def test_images_are_ranked_within_their_prompt_and_over_all(ranked: Path, tab: Tab) -> None:
    tab.open(f"{ranked.as_uri()}#order=ranked")
    assert scores(tab)[:6] == [0.75, 0.5, 0.25, 0.4, 0.3, 0.2]
    tab.press("j", "Enter")
    assert "rank in prompt1 of 3" in opened(tab) and "rank overall1 of 12" in opened(tab)
    strip = tab.js("[...document.querySelectorAll('.siblings button')].map((b) => b.getAttribute('aria-label'))")
    assert [re.sub(r":.*", "", label) for label in strip] == ["image 1", "image 0", "image 2"]
    tab.click(".siblings button:last-child")
    assert "rank in prompt3 of 3" in opened(tab)
    tab.press("Escape")
    tab.js("document.querySelector('[name=order]').value = 'worst'")
    tab.js("document.querySelector('.tools').dispatchEvent(new Event('input'))")
    assert scores(tab) == sorted(scores(tab))


def test_a_range_of_scores_by_hand_or_by_a_bar(ranked: Path, tab: Tab) -> None:
    tab.open(ranked)
    tab.click("[name=min]")
    tab.press(*"0.59")
    assert scores(tab) == [0.75, 0.6, 0.65, 0.7]
    tab.js("document.querySelector('button[name=all]').click()")
    said = tab.js("document.querySelector('.bin:last-of-type title').textContent")
    tab.js("document.querySelector('.bin:last-of-type').dispatchEvent(new MouseEvent('click', {bubbles: true}))")
    assert f": {len(scores(tab))} image" in said


def test_a_view_can_be_linked(run: Run, tab: Tab) -> None:
    index = page(run)
    tab.open(index)
    tab.press("3", "j", "j", "Enter")
    address = tab.js("location.href")
    said = opened(tab)
    assert said
    again = tab.browser.tab()
    again.open(address)
    assert opened(again) == said
    assert again.js("document.querySelector('[name=verdict]:checked').value") == "failed"
    again.press("Escape")
    again.until("location.hash === '#verdict=failed'")
    again.open(f"{index.as_uri()}#nonsense&verdict=gone&image=none/7&min=x")
    again.until("document.querySelectorAll('.card:not([hidden])').length === 18")
    assert again.errors == []
    tab.browser.close(again)


def test_without_a_script_the_overview_stays_and_its_pictures_are_links(run: Run, tab: Tab) -> None:
    index = page(run)
    tab.command("Emulation.setScriptExecutionDisabled", value=True)
    tab.open(index)
    assert len(shown(tab)) == 18
    assert tab.js("document.querySelector('.tools').hidden && !document.querySelector('dialog[open]')")
    tab.click(".card a")
    tab.until("location.pathname.endsWith('/images/00000/0.png')")


def test_on_a_phone_nothing_is_wider_than_the_screen(run: Run, tab: Tab) -> None:
    tab.size(390, 844, phone=True)
    tab.open(page(run))
    assert tab.js("document.documentElement.scrollWidth") == 390
    tab.press("j", "Enter")
    assert tab.js("document.querySelector('.viewer').scrollWidth") <= 390
    assert tab.js("document.querySelector('.stage').getBoundingClientRect().width") > 300

"""`star-bench ls` on a narrow terminal: one line for each thing, names whole, and no more lines than a person reads."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from star_bench.cli.main import main
from star_bench.cli.output import SHOWN, print_listing, print_result
from star_bench.reporting.listing import KEPT_WHOLE

Capture = pytest.CaptureFixture[str]
Call = Callable[..., None]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Call:
    """call("ls", ...) is `star-bench ls ...`, which must succeed."""

    def command(*words: str) -> None:
        monkeypatch.setattr(sys, "argv", ["star-bench", *words])
        main()

    return command


@pytest.mark.parametrize("width", [80, 120, 400])
@pytest.mark.parametrize("what", ["models", "suites", "recipes", "licences"])
def test_names_are_whole_and_each_has_one_line(
    call: Call, capfd: Capture, monkeypatch: pytest.MonkeyPatch, what: str, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    call("ls", what, "--json")
    known = json.loads(capfd.readouterr().out)
    call("ls", what, "--all")
    out, err = capfd.readouterr()
    header, *lines = out.splitlines()
    assert len(lines) == len(known)
    for line, row in zip(lines, known, strict=True):
        assert row["name"] in line and len(line) <= width
    left = [key for key in known[0] if key.replace("_", " ") not in header]
    assert (f"no room for {', '.join(key.replace('_', ' ') for key in left)}" in err) == bool(left)
    if width == 400:
        assert not left


def test_a_long_listing_says_how_many_more_there_are(capfd: Capture) -> None:
    rows: list[dict[str, Any]] = [{"model": f"m{i}", "run": i, "two_words": "x"} for i in range(SHOWN + 7)]
    print_listing(rows, KEPT_WHOLE, most=SHOWN)
    out, err = capfd.readouterr()
    assert (len(out.splitlines()), err) == (1 + SHOWN, "7 more: --all shows them\n")
    assert out.startswith("model  run  two words")
    print_listing(rows, KEPT_WHOLE, most=None)
    out, err = capfd.readouterr()
    assert (len(out.splitlines()), err) == (1 + SHOWN + 7, "")


def test_a_name_is_whole_even_where_it_is_longer_than_the_line(capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_listing([{"name": "n" * 60, "note": "y" * 50, "source": "z" * 50}], KEPT_WHOLE, most=None)
    out, err = capfd.readouterr()
    assert "n" * 60 in out and "z" not in out and "y" * 10 in out
    assert err == "no room for source: --json has it all\n"


def test_keys_of_json_are_words_in_a_table(capfd: Capture) -> None:
    print_result({"already_made": 3, "run": "a_b"}, as_json=False)
    out = capfd.readouterr().out
    assert "already made" in out and "a_b" in out

"""LaTeX tables: what they print is what the run says, and no text of a run becomes a command."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from star_bench.errors import Incomplete, Refused
from star_bench.reporting.latex import comparison_table, escape, run_table
from star_bench.reporting.write import write_report
from star_bench.runs.finished import parse_results, read_run

if TYPE_CHECKING:
    from conftest import Run

Made = Callable[..., Path]

PRINTED = {
    **{"\\" + mark: mark for mark in "&%$#_{}"},
    r"\textbackslash{}": "\\",
    r"\textasciitilde{}": "~",
    r"\textasciicircum{}": "^",
    r"\textless{}": "<",
    r"\textgreater{}": ">",
    r"\textbar{}": "|",
    r"\textasciigrave{}": "`",
    "{''}": '"',
    "{[}": "[",
    "{*}": "*",
    "{}": "",
}
TOKEN = re.compile("|".join(map(re.escape, sorted(PRINTED, key=len, reverse=True))) + r"|[^&%$#_{}\\~^<>|`\"]")


def printed(latex: str) -> str:
    """What LaTeX prints of escaped text. Fails at any special character that stands for itself."""
    out, at = [], 0
    while at < len(latex):
        token = TOKEN.match(latex, at)
        assert token is not None, f"an unescaped {latex[at]!r} in {latex!r}"
        out.append(PRINTED.get(token.group(), token.group()))
        at = token.end()
    return "".join(out)


@given(st.text(st.characters(exclude_categories=["Cs"])) | st.text(r"""\{}$&#%_~^<>|"'`-[]* a"""))
@example("\\input{/etc/passwd}")
@example("[1ex] a row that would begin with an option")
@example("a -- b --- c '' d \" e")
@example("50 % of 3_000 & more\nlines")
def test_escaped_text_prints_itself_and_nothing_else(text: str) -> None:
    plain = " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", text).split())
    latex = escape(text)
    assert printed(latex) == plain
    assert "--" not in latex and not re.match(r"[\[*]", latex) and "\n" not in latex
    assert "''" not in latex.replace("{''}", "")


def rows(table: str) -> list[list[str]]:
    """The cells of each row, between \\toprule and \\bottomrule, without the head."""
    body = table.split(r"\toprule")[1].split(r"\bottomrule")[0]
    lines = [line.strip() for line in body.splitlines() if line.strip().endswith(r"\\")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)&", line.removesuffix(r"\\"))] for line in lines][1:]


def test_a_run_is_a_booktabs_table_with_intervals(run: Run) -> None:
    table = run_table(parse_results(run.results))
    assert [table.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 2, 1]
    first, *_, last = rows(table)
    assert first == ["mean of the tags' means", r"0.712 {\small [0.512, 0.862]}", "14", "14"]
    assert last == [r"color\_attr", "--", "0", "0"], "no score is a dash, not 0"
    assert len(rows(table)) == 2 + 6


@pytest.mark.parametrize(
    "said",
    [
        "GenEval [fraction correct], star-bench-miniature 1.0",
        "95 \\% bootstrap over prompts, 2000 resamples, seed 0",
        "INCOMPLETE: 14 of 18 images have a score",
        "SUBSET (18 of 553 prompts)",
        "14 images of 14 prompts",
        "0123456789abcdef",
    ],
)
def test_the_caption_says_what_the_numbers_are(run: Run, said: str) -> None:
    run.results["subset"] = {"limit": 18, "of": 553}
    table = run_table(parse_results(run.results))
    (caption,) = re.findall(r"\\caption\{(.*)\}\n", table)
    assert said in caption


def test_a_hostile_name_stays_text(run: Run) -> None:
    run.results["aggregates"][0]["title"] = r"[2cm] \input{x} & 100 %"
    run.results["model"]["name"] = r"}\end{table}\write18{rm}"
    table = run_table(parse_results(run.results))
    assert rows(table)[0][0] == r"{[}2cm] \textbackslash{}input\{x\} \& 100 \%"
    assert table.count(r"\end{table}") == 1 and r"\write18" not in table


def test_every_measure_of_a_panel_is_named_in_the_caption(made: Made, kinds: dict[str, Any]) -> None:
    results = read_run(made(np.full((6, 2), 0.5), kind=kinds["panel"])).results
    assert "Measures: Glow [share], drawn 1; Contrast [share], drawn 1; Spread [share], drawn 1." in run_table(results)


def test_models_side_by_side_the_headline_first(made: Made) -> None:
    values = np.linspace(0.3, 0.6, 12).reshape(6, 2)
    runs = [read_run(made(values + 0.1 * i, model=f"model_{i}", tags=2)) for i in range(3)]
    table = comparison_table(runs)
    found = rows(table)
    assert [row[0] for row in found] == [r"model\_0", "", r"model\_1", "", r"model\_2", ""]
    assert all(len(row) == 1 + 1 + 2 for row in found), "model, headline, two tags"
    for run, value, interval in zip(runs, found[::2], found[1::2], strict=True):
        headline = run.results.aggregates[0]
        assert value[1] == f"{headline.value:.3f}"
        assert interval[1] == f"{{\\small [{headline.low:.3f}, {headline.high:.3f}]}}"
        assert run.results.digest[:16] in table
    assert "Metric: Brightness [share of white], drawn 1" in table


def test_negative_numbers_have_a_minus_sign(run: Run) -> None:
    run.results["aggregates"][0].update(value=-0.25, low=-0.5, high=0.125)
    assert rows(run_table(parse_results(run.results)))[0][1] == r"$-$0.250 {\small [$-$0.500, 0.125]}"


def test_runs_that_differ_in_more_than_the_model_are_refused(made: Made) -> None:
    first = read_run(made(np.full((6, 2), 0.5)))
    with pytest.raises(Refused, match="steps"):
        comparison_table([first, read_run(made(np.full((6, 2), 0.5), model="after", steps=40))])


def test_an_incomplete_run_is_in_no_comparison(made: Made) -> None:
    values = np.full((6, 2), 0.5)
    first, other = read_run(made(values)), made(values, model="after", contrast=0.0)
    with pytest.raises(Incomplete, match="not all images have a score"):
        comparison_table([first, read_run(other)])


def test_the_report_holds_it(run: Run, tmp_path: Path) -> None:
    page = write_report(run.folder, tmp_path / "report")
    assert (page.parent / "results.tex").read_text() == run_table(parse_results(run.results))

"""Tables for a paper: booktabs, every value with its interval, and a caption that says what the numbers are.

Needs \\usepackage{booktabs}. All text goes through `escape`; only this file writes commands.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from star_bench.analysis.caveats import notices
from star_bench.analysis.comparable import check_comparable
from star_bench.analysis.identity import identity_of
from star_bench.analysis.numbers import number
from star_bench.errors import UsageError
from star_bench.reporting.tables import caption
from star_bench.runs.finished import Interval, Results, RunFiles

ESCAPES = {
    **{mark: "\\" + mark for mark in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    '"': "{''}",
    "-": "-{}",  # the first of two, which would become a dash
    "'": "'{}",  # the first of two, which would become a quotation mark
    "[": "{[}",  # as the first of a cell: after \\ or a rule it would begin an option
    "*": "{*}",  # the same: \\* is another command
}
SPECIAL = re.compile(r"""[&%$#_{}\\~^<>|`"]|-(?=-)|'(?=')|^[\[*]""")
ABSENT = "--"
PREAMBLE = "% needs \\usepackage{booktabs}\n"


def escape(text: str) -> str:
    """Any text as LaTeX that prints it: white space and control characters become single spaces."""
    plain = " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", text).split())
    return SPECIAL.sub(lambda match: ESCAPES[match.group()], plain)


def _number(value: float) -> str:
    """Three decimals, as papers print them; results.csv has them all."""
    return number(value, 3).replace("-", "$-$")


def _value(entry: Interval) -> str:
    return ABSENT if entry.value is None else _number(entry.value)


def _interval(entry: Interval) -> str:
    """Empty where there is none: a tag with a single prompt, or no score."""
    if entry.low is None or entry.high is None:
        return ""
    return f"{{\\small [{_number(entry.low)}, {_number(entry.high)}]}}"


def _row(cells: Iterable[str]) -> str:
    return "    " + " & ".join(cells) + r" \\"


def _label(results: Results) -> str:
    return re.sub(r"[^\w.-]+", "-", f"{results.suite}-{results.digest[:8]}", flags=re.ASCII)


def _table(columns: str, head: Sequence[str], groups: Sequence[Sequence[str]], said: str, label: str) -> str:
    """groups: rows, with a rule between two groups. said: the caption, escaped."""
    body = "\n    \\midrule\n".join("\n".join(rows) for rows in groups if rows)
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            f"  \\caption{{{said}}}",
            f"  \\label{{tab:{label}}}",
            f"  \\begin{{tabular}}{{{columns}}}",
            r"    \toprule",
            _row(head),
            r"    \midrule",
            body,
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _size(results: Results) -> str:
    headline = results.aggregates[0]
    return f"{headline.n_images} images of {headline.n_prompts} prompts"


def _measures(results: Results) -> str:
    """What each aggregate of a suite with several measures is: the suite's metric does not say it."""
    said = [identity_of(results, measure.name) for measure in results.measures]
    return f" Measures: {'; '.join(said)}." if said else ""


def run_table(results: Results) -> str:
    """results.tex: the aggregates, then the tags, each with its interval and what it is made of."""

    def rows(entries: Iterable[tuple[str, Interval]]) -> list[str]:
        return [
            _row([escape(name), f"{_value(e)} {_interval(e)}".strip(), str(e.n_images), str(e.n_prompts)])
            for name, e in entries
        ]

    groups = [rows((e.title, e) for e in results.aggregates), rows((e.tag, e) for e in results.tags)]
    said = f"{caption(results)} {_size(results)}.{_measures(results)} Run {results.digest[:16]}."
    head = ["Measure", r"Value {\small [interval]}", "Images", "Prompts"]
    return PREAMBLE + _table("lrrr", head, groups, escape(said), _label(results))


def comparison_table(runs: Sequence[RunFiles]) -> str:
    """Several models on one suite: a row each, the headline first and then the tags, intervals below the values.

    Raises Refused or Incomplete, as `check_comparable` does, for runs in which more than the model differs; UsageError
    for no run.
    """
    if not runs:
        raise UsageError("there is no run to make a table of", "give at least one")
    first = runs[0].results
    for other in runs[1:]:
        check_comparable(runs[0], other)
    rows = []
    for run in runs:
        entries = [run.results.aggregates[0], *run.results.tags]
        rows.append(_row([escape(run.results.model.name), *map(_value, entries)]))
        rows.append(_row(["", *map(_interval, entries)]))
    head = ["Model", escape(first.aggregates[0].title), *(escape(entry.tag) for entry in first.tags)]
    marks = dict.fromkeys(notice for run in runs for notice in notices(run.results))
    parts = [*marks, first.title, f"Metric: {first.metric.identity}", f"Intervals: {first.interval}", _size(first)]
    digests = ", ".join(run.results.digest[:16] for run in runs)
    said = f"{'. '.join(parts)} per model.{_measures(first)} Runs {digests}."
    return PREAMBLE + _table("l" + "r" * (len(head) - 1), head, [rows], escape(said), _label(first))

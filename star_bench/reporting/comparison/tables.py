"""Comparisons as tables: the terminal's, a tidy DataFrame, Markdown, and plain data for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
from rich.console import Console
from rich.text import Text

from star_bench.analysis.compare import METHODS, Comparison, Row
from star_bench.analysis.numbers import ABSENT, signed
from star_bench.analysis.runs import SuiteComparison
from star_bench.reporting.comparison.words import flips_line, interval, moved, p_text, sentence
from star_bench.reporting.tables import escape_markdown, terminal_table, to_markdown

P_VALUES = {"p": "p", "p_holm": "p Holm", "p_mcnemar": "p McNemar"}
"""Field of a row -> the head of its column."""


def each(found: Sequence[SuiteComparison]) -> Iterator[tuple[SuiteComparison, Comparison, str, str]]:
    """(suite, comparison, the baseline's name, the other's name)."""
    for suite in found:
        for comparison, name in zip(suite.comparisons, suite.names[1:], strict=True):
            yield suite, comparison, suite.names[0], name


def p_columns(comparison: Comparison) -> dict[str, str]:
    """Those of P_VALUES that any row has."""
    return {
        name: head for name, head in P_VALUES.items() if any(getattr(row, name) is not None for row in comparison.rows)
    }


def _values(row: Row) -> dict[str, float | None]:
    return {"A": row.before, "B": row.after}


def _frame(comparison: Comparison) -> pd.DataFrame:
    """Every number in a column of its own, for wide places."""
    rows = [
        {
            "measure": row.title,
            **_values(row),
            "B - A": signed(row.difference.value),
            "interval": interval(row) or ABSENT,
            **{head: p_text(getattr(row, name)) for name, head in p_columns(comparison).items()},
            "shown": moved(comparison, row) or ABSENT,
        }
        for row in comparison.rows
    ]
    return pd.DataFrame(rows).astype({"A": float, "B": float})


def _narrow_frame(comparison: Comparison) -> pd.DataFrame:
    """For 80 characters: what belongs together stands below each other."""
    rows = []
    for row in comparison.rows:
        p_values = ((head, getattr(row, name)) for name, head in p_columns(comparison).items())
        rows.append(
            {
                "measure": "\n".join(filter(None, [row.title, moved(comparison, row)])),
                **_values(row),
                "B - A": "\n".join([signed(row.difference.value), interval(row) or "no interval"]),
                "p": "\n".join(f"{p_text(p)}{head.removeprefix('p')}" for head, p in p_values if p is not None),
            }
        )
    return pd.DataFrame(rows).astype({"A": float, "B": float})


def caption(comparison: Comparison) -> str:
    """The notices first, then the metric and how each number was made."""
    made = [METHODS["difference"], *(f"{head}: {METHODS[name]}" for name, head in p_columns(comparison).items())]
    said = [*comparison.notices, *metrics(comparison), f"Differences: {'. '.join(made)}"]
    return ". ".join(said) + "."


def metrics(comparison: Comparison) -> list[str]:
    """The metric's identity; where differing ones were allowed, both."""
    identities = [run.results.metric.identity for run in (comparison.before, comparison.after)]
    if identities[0] == identities[1]:
        return [f"Metric: {identities[0]}"]
    return [f"Metric of A: {identities[0]}", f"Metric of B: {identities[1]}"]


def print_comparisons(found: Sequence[SuiteComparison], console: Console) -> None:
    """A table for each two runs, with what it says, its flips, and what each number is."""
    for suite, comparison, before, after in each(found):
        note = Text(f"{flips_line(comparison)}.\n", style="bold not dim")
        small = Text(caption(comparison), style="dim")
        small.highlight_words(comparison.notices, style="not dim bold yellow")
        title = f"{sentence(comparison, before, after)}\n{suite.results.title}: A = {before}, B = {after}"
        console.print(terminal_table(title, _narrow_frame(comparison), note.append_text(small)))


def tidy_frame(found: Sequence[SuiteComparison]) -> pd.DataFrame:
    """One row per measure of each two runs, at full precision, with all that says what its numbers are."""
    rows = [
        {
            "suite": suite.results.suite,
            "before_model": before,
            "after_model": after,
            **row.as_dict(),
            "shown": moved(comparison, row),
            "metric": "; ".join(metrics(comparison)),
            "methods": "; ".join(f"{name}: {method}" for name, method in METHODS.items()),
            "notices": "; ".join(comparison.notices),
            "before_run": comparison.before.results.digest,
            "after_run": comparison.after.results.digest,
        }
        for suite, comparison, before, after in each(found)
        for row in comparison.rows
    ]
    return pd.DataFrame(rows)


def flips_frame(found: Sequence[SuiteComparison]) -> pd.DataFrame:
    """One row per image whose value changed: what became worse first, the largest change first."""
    columns = ["suite", "before_model", "after_model", "prompt_id", "k", "tag", "before", "after", "change", "prompt"]
    rows = [
        (
            suite.results.suite,
            before,
            after,
            pair.before.prompt.id,
            pair.before.k,
            pair.before.prompt.tag,
            pair.before.value,
            pair.after.value,
            pair.change,
            pair.before.prompt.text,
        )
        for suite, comparison, before, after in each(found)
        for pair in comparison.flips
    ]
    return pd.DataFrame(rows, columns=columns)


def as_data(found: Sequence[SuiteComparison]) -> list[dict[str, Any]]:
    """For programs: every comparison with what it says in words."""
    out = []
    for _, comparison, before, after in each(found):
        data = comparison.as_dict()
        for side, name in (("before", before), ("after", after)):
            data[side] = {"name": name, **data[side]}
        for row, shown in zip(data["rows"], comparison.rows, strict=True):
            row["shown"] = moved(comparison, shown)
        waived = [
            {"part": w.part.value, "field": w.field, "before": w.first, "after": w.second} for w in comparison.waived
        ]
        out.append({"sentence": sentence(comparison, before, after), **data, "waived": waived})
    return out


def to_report(found: Sequence[SuiteComparison]) -> str:
    """compare.md: what each comparison says, its notices, its table and its flips."""
    parts = []
    for suite, comparison, before, after in each(found):
        parts.append(
            f"# {escape_markdown(after)} against {escape_markdown(before)} on {escape_markdown(suite.results.title)}\n"
        )
        parts += [f"> **{escape_markdown(notice)}**\n" for notice in comparison.notices]
        parts.append(f"**{escape_markdown(sentence(comparison, before, after))}.** {flips_line(comparison)}.\n")
        parts.append(f"A is {escape_markdown(before)} and B is {escape_markdown(after)}.\n")
        parts += [to_markdown(_frame(comparison)), f"*{escape_markdown(caption(comparison))}*\n"]
    return "\n".join(parts)

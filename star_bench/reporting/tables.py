"""A run's results as tables: a DataFrame, Markdown, tidy CSV and JSON, and the terminal.

No table stands without its caption: which metric, how the interval was made, and what is not whole about the run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from star_bench.analysis.caveats import notices
from star_bench.analysis.numbers import ABSENT, number
from star_bench.analysis.published import protocol_words
from star_bench.runs.finished import Interval, Results, parse_results

NUMBERS: tuple[str, ...] = ("value", "low", "high")
PUBLISHED_CAPTION = "Published, not measured here: other people's numbers, under their own protocols."


def caption(results: Results) -> str:
    """One paragraph: the notices first, then the run, its metric and its intervals."""
    said = [*notices(results), f"{results.model.name} on {results.title}", f"Metric: {results.metric.identity}"]
    return ". ".join([*said, f"Intervals: {results.interval}"]) + "."


def _rows(results: Results) -> list[tuple[str, str, str, Interval]]:
    """(kind, name, shown measure, numbers): aggregates, then tags."""
    aggregates = [("aggregate", entry.name, entry.title, entry) for entry in results.aggregates]
    return [*aggregates, *(("tag", entry.tag, entry.tag, entry) for entry in results.tags)]


def measure_frame(results: Results) -> pd.DataFrame:
    """Columns measure, value, low, high, images, prompts; rows are the aggregates, then the tags.

    value, low and high are float, NaN where nothing was scored.
    """
    rows = [(shown, e.value, e.low, e.high, e.n_images, e.n_prompts) for _, _, shown, e in _rows(results)]
    frame = pd.DataFrame(rows, columns=["measure", *NUMBERS, "images", "prompts"])
    return frame.astype(dict.fromkeys(NUMBERS, float))


def tidy_frame(results: Results) -> pd.DataFrame:
    """The measures at full precision with the caption as columns, so that rows of many runs can be put together."""
    frame = measure_frame(results)
    frame.insert(0, "kind", [kind for kind, *_ in _rows(results)])
    frame.insert(1, "name", [name for _, name, *_ in _rows(results)])
    return frame.assign(
        model=results.model.name,
        suite=results.suite,
        metric=results.metric.identity,
        interval=results.interval,
        notices="; ".join(notices(results)),
        digest=results.digest,
    )


def published_frame(results: Results) -> pd.DataFrame:
    """Columns model, value, one per tag that anybody published, metric, protocol, source. May have no rows."""
    named = dict.fromkeys([t.tag for t in results.tags] + [tag for entry in results.published for tag in entry.tags])
    tags = [tag for tag in named if any(tag in entry.tags for entry in results.published)]
    rows = [
        (e.model, e.value, *(e.tags.get(tag) for tag in tags), e.metric or ABSENT, protocol_words(e, results), e.source)
        for e in results.published
    ]
    frame = pd.DataFrame(rows, columns=["model", "value", *tags, "metric", "protocol", "source"])
    return frame.astype(dict.fromkeys(["value", *tags], float))


def cells(frame: pd.DataFrame) -> list[list[str]]:
    """Every cell as a reader sees it: floats with four decimals, a dash for none."""
    floats = [pd.api.types.is_float_dtype(dtype) for dtype in frame.dtypes]
    return [
        [number(cell) if is_float else str(cell) for cell, is_float in zip(row, floats, strict=True)]
        for row in frame.itertuples(index=False, name=None)
    ]


def to_csv(frame: pd.DataFrame) -> str:
    """Full precision; an empty cell where there is no value."""
    return frame.to_csv(index=False, lineterminator="\n")


def to_json(frame: pd.DataFrame) -> str:
    """A JSON array of records; null where there is no value."""
    records = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return json.dumps(records, indent=2, allow_nan=False) + "\n"


def escape_markdown(text: str) -> str:
    """Text from prompts, cards and models must not become Markdown structure or HTML."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for mark in "\\`*[]|":
        text = text.replace(mark, "\\" + mark)
    return text


def to_markdown(frame: pd.DataFrame) -> str:
    """A pipe table, numbers to the right."""
    right = [pd.api.types.is_numeric_dtype(dtype) for dtype in frame.dtypes]
    rows = [[escape_markdown(str(name)) for name in frame.columns], ["---:" if r else "---" for r in right]]
    rows += [[escape_markdown(cell) for cell in row] for row in cells(frame)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def report_markdown(results: Results) -> str:
    """report.md: notices, measures, published numbers, protocol and provenance."""
    parts = [f"# {escape_markdown(results.model.name)} on {escape_markdown(results.title)}\n"]
    parts += [f"> **{escape_markdown(notice)}**\n" for notice in notices(results)]
    parts += [to_markdown(measure_frame(results)), f"*{escape_markdown(caption(results))}*\n"]
    if results.published:
        parts += ["## Published numbers\n", to_markdown(published_frame(results)), f"*{PUBLISHED_CAPTION}*\n"]
    parts.append("## Protocol and provenance\n")
    for title, facts in provenance(results).items():
        lines = "".join(
            f"- {escape_markdown(key)}: {escape_markdown(value) or ABSENT}\n" for key, value in facts.items()
        )
        parts.append(f"### {title}\n\n{lines}")
    return "\n".join(parts)


def provenance(results: Results) -> dict[str, dict[str, str]]:
    """Section title -> fact -> text: all that is needed to make the same numbers again."""
    made = results.protocol if results.protocol is not None else {"images": "foreign: not made by star-bench"}
    metric, canaries = results.metric, results.canaries
    out = {
        "Generation": {key.replace("_", " "): '""' if value == "" else str(value) for key, value in made.items()},
        "Metric": {
            "name": metric.name,
            "implementation": f"{metric.implementation} {metric.version}",
            "unit": metric.unit,
            "range": " to ".join("unbounded" if bound is None else f"{bound:g}" for bound in metric.range),
            "interval": results.interval,
            "canaries": f"{canaries} judged right before scoring" if canaries else "none",
            "paper": metric.paper,
            "licence": metric.licence,
        },
        "Model": {"name": results.model.name, "digest": results.model.digest},
        "Judges": results.judges,
        "Licences": {
            f"{part.of} {part.name}": f"{part.licence}; commercial use: {part.commercial}"
            + (f"; {part.licence_url}" if part.licence_url else "")
            for part in results.ledger
        },
        "Versions": {key: str(value) for key, value in results.versions.items()},
        "Run": {"suite": results.suite, "digest": results.digest},
    }
    return {title: facts for title, facts in out.items() if facts}


def terminal_table(title: str, frame: pd.DataFrame, note: Text) -> Table:
    """For rich to print. Cells and captions are Text, so that brackets in a name are not taken for rich's markup."""
    table = Table(title=Text(title, style="bold"), caption=note, caption_justify="left", title_justify="left")
    for name, dtype in frame.dtypes.items():
        is_number = pd.api.types.is_numeric_dtype(dtype)
        kind: dict[str, Any] = (
            {"justify": "right", "no_wrap": True} if is_number else {"min_width": 8, "overflow": "fold"}
        )
        table.add_column(Text(str(name)), **kind)
    for row in cells(frame):
        table.add_row(*(Text(cell) for cell in row))
    return table


def print_table(results: Mapping[str, Any], console: Console) -> None:
    """Prints the measures and the published numbers of a results.json. Raises Refused for a broken one."""
    checked = parse_results(results)
    note = Text(caption(checked), style="dim")
    note.highlight_words(notices(checked), style="not dim bold yellow")
    title = f"{checked.model.name} on {checked.title}"
    console.print(terminal_table(title, measure_frame(checked), note))
    if checked.published:
        note = Text(PUBLISHED_CAPTION, style="dim")
        console.print(terminal_table("Published numbers", published_frame(checked), note))

"""The gate's verdict for a terminal, for a pull request and for CI's test reports."""

from __future__ import annotations

from xml.etree import ElementTree

import pandas as pd
from rich.console import Console
from rich.text import Text

from star_bench.analysis.gate import Check, Gate, Verdict
from star_bench.analysis.numbers import number, signed
from star_bench.reporting.tables import escape_markdown, terminal_table, to_markdown

MARKS = {True: "passed", False: "FAILED", None: "undecided"}
NOT_XML = dict.fromkeys((*range(9), 11, 12, *range(14, 32), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF), "\ufffd")
"""Characters that XML 1.0 has no way to hold, not even escaped."""


def frame(gate: Gate) -> pd.DataFrame:
    """Columns measure, baseline, now, difference, low, high, p, smallest, verdict; a row per check."""
    rows = [
        {
            "measure": check.title,
            "baseline": check.before,
            "now": check.after,
            "difference": check.difference.value,
            "low": check.difference.low,
            "high": check.difference.high,
            "p": check.p,
            "smallest": check.smallest,
            "verdict": MARKS[check.passed],
        }
        for check in gate.checks
    ]
    numbers = ["baseline", "now", "difference", "low", "high", "p", "smallest"]
    return pd.DataFrame(rows, columns=["measure", *numbers, "verdict"]).astype(dict.fromkeys(numbers, float))


def _explained(gate: Gate) -> str:
    methods = "; ".join(f"{name}: {text}" for name, text in gate.methods.items())
    return f"Metric: {gate.metric}. {methods}."


def print_gate(gate: Gate, console: Console) -> None:
    """The table of checks under its verdict; a difference has its interval below it."""
    shown = frame(gate)
    spans = [f"{number(low)} to {number(high)}" for low, high in zip(shown["low"], shown["high"], strict=True)]
    shown["difference"] = [f"{number(d)}\n({span})" for d, span in zip(shown["difference"], spans, strict=True)]
    note = Text(". ".join([*gate.notices, _explained(gate)]), style="dim")
    note.highlight_words(gate.notices, style="not dim bold yellow")
    console.print(terminal_table(gate.sentence, shown.drop(columns=["low", "high", "smallest"]), note))


def markdown(gate: Gate) -> str:
    """A summary for a pull request: the verdict first, then the numbers, then how they were made."""
    mark = {Verdict.PASSED: "✅", Verdict.FAILED: "❌", Verdict.INCOMPLETE: "⚠️"}[gate.verdict]
    parts = [f"### {mark} {escape_markdown(gate.sentence)}\n"]
    parts += [f"> **{escape_markdown(notice)}**\n" for notice in gate.notices]
    if gate.checks:
        parts.append(to_markdown(frame(gate)))
    parts.append(f"<sub>{escape_markdown(_explained(gate))}</sub>\n")
    return "\n".join(parts)


def junit(gate: Gate) -> bytes:
    """JUnit XML: a test case per check, a failure for one that failed, an error for one that could not be decided."""
    checks = gate.checks or (None,)
    wrong = [check for check in gate.checks if check.passed is False]
    undecided = [check for check in checks if check is None or check.passed is None]
    counts = {"tests": str(len(checks)), "failures": str(len(wrong)), "errors": str(len(undecided))}
    suites = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(suites, "testsuite", {"name": _xml(f"star-bench gate: {gate.suite}"), **counts})
    properties = ElementTree.SubElement(suite, "properties")
    facts = {"model": gate.model, "baseline": gate.baseline, "metric": gate.metric, **gate.methods}
    for name, value in [*facts.items(), *(("notice", notice) for notice in gate.notices)]:
        ElementTree.SubElement(properties, "property", {"name": name, "value": _xml(value)})
    for check in checks:
        _case(suite, gate, check)
    ElementTree.indent(suites)
    return bytes(ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True)) + b"\n"


def _case(suite: ElementTree.Element, gate: Gate, check: Check | None) -> None:
    title = check.title if check else "all images have a score"
    case = ElementTree.SubElement(suite, "testcase", {"classname": _xml(gate.suite), "name": _xml(title)})
    if check is None or check.passed is None:
        ElementTree.SubElement(case, "error", {"message": _xml(gate.sentence)})
    elif not check.passed:
        difference = check.difference
        span = f"{number(difference.low)} to {number(difference.high)}"
        message = (
            f"{number(check.before)} -> {number(check.after)}, {signed(difference.value)} ({span}), p {number(check.p)}"
        )
        ElementTree.SubElement(case, "failure", {"message": _xml(message)}).text = _xml(gate.sentence)


def _xml(text: str) -> str:
    return text.translate(NOT_XML)

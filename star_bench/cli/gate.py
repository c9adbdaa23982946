"""`star-bench gate`: stops a checkpoint that got worse. Its exit code is the verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from star_bench.cli.output import Json, print_result
from star_bench.errors import GateFailed, Incomplete, UsageError
from star_bench.statistics.rule import Rule

Allow = Annotated[
    list[str] | None,
    typer.Option(help="A difference between the runs that is allowed, such as steps or protocol; repeatable."),
]


def gate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run: its path, model/suite, digest, or latest.")],
    baseline: Annotated[
        str, typer.Option(help="Another run's directory, or `published`, or `published:TEXT` to choose by its source.")
    ],
    margin: Annotated[float, typer.Option(help="How much worse is still good enough, in the metric's unit.")] = 0.0,
    rule: Annotated[
        Rule, typer.Option(help="Fail what is shown to be worse, or pass only what is shown not to be.")
    ] = Rule.NO_REGRESSION,
    each_tag: Annotated[
        bool, typer.Option("--each-tag", help="Check every tag too, corrected for their number.")
    ] = False,
    allow: Allow = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML here.")] = None,
    summary: Annotated[Path | None, typer.Option(help="Write a Markdown summary here.")] = None,
    as_json: Json = False,
) -> None:
    """Exit 0: passed. 1: failed. 3: incomplete, and no pass. See docs/gate.md for what each rule shows."""
    from rich.console import Console

    from star_bench.analysis import gate as gates
    from star_bench.analysis.published import published_for
    from star_bench.files.atomic import write_atomically
    from star_bench.reporting.gate_report import junit as as_junit
    from star_bench.reporting.gate_report import markdown, print_gate
    from star_bench.runs.finished import read_finished

    mine = read_finished(run)
    kind, _, which = baseline.partition(":")
    if kind == "published":
        if allow:
            raise UsageError("a published number has no settings to allow a difference in", "leave --allow out")
        entry = published_for(mine.results, which)
        found = gates.against_published(mine, entry, rule=rule, margin=margin, each_tag=each_tag)
    else:
        other = read_finished(Path(baseline))
        found = gates.against_run(mine, other, rule=rule, margin=margin, each_tag=each_tag, allow=allow or ())
    if junit:
        write_atomically(junit, as_junit(found))
    if summary:
        write_atomically(summary, markdown(found).encode("utf-8", "replace"))
    if as_json:
        print_result(found.as_dict(), as_json=True)
    else:
        print_gate(found, Console())
    if found.verdict is gates.Verdict.FAILED:
        raise GateFailed(found.sentence, "look at 'star-bench compare' for which pictures changed")
    if found.verdict is gates.Verdict.INCOMPLETE:
        raise Incomplete(found.sentence, found.remedy)

"""One page of several suites' results: what one command measured, each a click from its own page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from star_bench.analysis import caveats
from star_bench.files.atomic import write_atomically
from star_bench.files.digests import digest_of
from star_bench.reporting.page import page
from star_bench.reporting.write import folder_name
from star_bench.runs.finished import Results


def write_overview(measured: Mapping[Path, Results], reports: Path) -> Path:
    """measured: each suite's page and results, all of one model. Returns the page, reports/<model>-overview-<digest>/."""
    name = next(iter(measured.values())).model.name
    digest = digest_of(sorted(results.digest for results in measured.values()))
    out = reports / folder_name(name, "overview", digest) / "index.html"
    rows = [
        {
            "suite": results.title,
            "address": f"../{path.parent.name}/{path.name}",
            "headline": results.aggregates[0],
            "metric": results.metric.identity,
            "counts": results.counts,
            "notices": caveats.notices(results),
        }
        for path, results in measured.items()
    ]
    values = {"model": name, "rows": rows}
    write_atomically(out, page("overview.html.j2", values, styles=["run.css"]).encode("utf-8", "replace"))
    return out

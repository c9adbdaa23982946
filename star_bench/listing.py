"""What can be named: models, suites, runs. Rows of plain data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from star_bench import checkpoints
from star_bench import suites as suite_cards


def models() -> list[dict[str, Any]]:
    """One row per entry of checkpoints.yaml."""
    rows = []
    for name in checkpoints.names():
        entry = checkpoints.resolve(name)
        rows.append(
            {
                "name": name,
                "source": str(entry.lora or entry.source),
                "base": entry.base,
                "licence": entry.licence,
                "status": "claimed, weights not released" if entry.status == "claimed" else entry.status,
            }
        )
    return rows


def suites() -> list[dict[str, Any]]:
    """One row per suite card."""
    cards = [suite_cards.load(name) for name in suite_cards.names()]
    return [{"name": c.name, "title": c.title, "evaluator": c.evaluator, "summary": c.summary} for c in cards]


def runs(folder: Path) -> list[dict[str, Any]]:
    """One row per run directory below `folder`, finished or not."""
    rows = []
    for manifest in sorted(folder.glob("*/*/*/manifest.json")):
        results = manifest.parent / "results.json"
        found = json.loads(results.read_text(encoding="utf-8")) if results.exists() else None
        headline = found["aggregates"][0] if found else None
        rows.append(
            {
                "model": manifest.parts[-4],
                "suite": manifest.parts[-3],
                "run": manifest.parts[-2],
                "state": "unfinished" if found is None else "complete" if found["complete"] else "incomplete",
                "measure": headline["title"] if headline else None,
                "value": headline["value"] if headline else None,
                "subset": bool(found and found["subset"]),
            }
        )
    return rows

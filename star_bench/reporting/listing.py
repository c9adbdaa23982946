"""What can be named: models, suites, recipes, runs, licences. Rows of plain data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from star_bench.analysis.numbers import number
from star_bench.catalogue import checkpoints
from star_bench.catalogue import licences as licensed
from star_bench.catalogue import suites as suite_cards
from star_bench.catalogue.cards import did_you_mean
from star_bench.errors import Refused, UsageError
from star_bench.files.json import read_json
from star_bench.runs.pictures import PICTURES

KEPT_WHOLE = ("name", "model", "suite", "run", "state", "value")
"""Columns that a narrow terminal does not cut: what a person types or reads off."""
ALLOWS = {"commercial": "yes", "non-commercial": "no", "unknown": "unknown"}
"""What --licence says, and the column "commercial" that it keeps."""


def _kept(rows: list[dict[str, Any]], licence: str | None) -> list[dict[str, Any]]:
    """Raises UsageError for a word that is not in ALLOWS."""
    if licence is None:
        return rows
    if licence not in ALLOWS:
        raise UsageError(f"there is no kind of licence {licence!r}", did_you_mean(licence, ALLOWS))
    return [row for row in rows if row["commercial"] == ALLOWS[licence]]


def models(licence: str | None = None) -> list[dict[str, Any]]:
    """One row per entry of checkpoints.yaml. A LoRA is free for commercial use only where its base is too.

    licence: a word of ALLOWS, to list only such. Raises UsageError for another word.
    """
    rows = []
    for name in checkpoints.names():
        entry = checkpoints.resolve(name)
        rows.append(
            {
                "name": name,
                "base": entry.base,
                "commercial": licensed.commercial(licensed.of_checkpoint(entry)),
                "licence": entry.licence,
                "status": "claimed, weights not released" if entry.status == "claimed" else entry.status,
                "source": str(entry.lora or entry.source),
            }
        )
    return _kept(rows, licence)


def licences(licence: str | None = None) -> list[dict[str, Any]]:
    """The ledger: one row per model, prompt set and judge, with the suites that use it; a LoRA's base is a row of its
    own. licence: as in `models`.
    """
    used: dict[licensed.Licensed, list[str]] = {}
    for name in checkpoints.names():
        used.setdefault(licensed.of_checkpoint(checkpoints.resolve(name))[0], [])
    for name in suite_cards.names():
        card = suite_cards.load(name)
        for part in (*licensed.of_suite(card), *licensed.of_training(card)):
            used.setdefault(part, []).append(name)
    rows = [
        {
            "of": part.of,
            "name": part.name,
            "licence": part.licence,
            "commercial": part.commercial,
            "used_by": ", ".join(names) or None,
            "stated_at": part.licence_url,
        }
        for part, names in used.items()
    ]
    return _kept(rows, licence)


def suites() -> list[dict[str, Any]]:
    """One row per suite card."""
    cards = [suite_cards.load(name) for name in suite_cards.names()]
    return [{"name": c.name, "title": c.title, "evaluator": c.evaluator, "summary": c.summary} for c in cards]


def runs(folder: Path, *, model: str | None = None, suite: str | None = None) -> list[dict[str, Any]]:
    """One row per run directory below `folder`, finished or not. model, suite: only theirs."""
    rows = []
    for manifest in sorted(folder.glob("*/*/*/manifest.json")):
        names = manifest.parts[-4:-1]
        wanted = (model and model.replace("/", "--"), suite)
        if names[1] == PICTURES or any(asked not in (None, name) for asked, name in zip(wanted, names, strict=False)):
            continue
        rows.append({**dict(zip(("model", "suite", "run"), names, strict=True)), **_said(manifest)})
    return rows


NOTHING = dict.fromkeys(("measure", "value", "low", "high", "seed", "steps", "size"))


def _said(manifest: Path) -> dict[str, Any]:
    """What a run's files say of it."""
    results, path = manifest.parent / "results.json", str(manifest.parent)
    try:
        found = read_json(results) if results.exists() else None
        if found is None:
            return {"state": "unfinished", **NOTHING, "finished": None, "subset": False, "path": path}
        headline, protocol = found["aggregates"][0], found["protocol"] or {}
        size = f"{protocol['width']}x{protocol['height']}" if protocol else None
        numbers = {"value": headline["value"], "low": headline["low"], "high": headline["high"]}
        sessions = [each["finished"] for each in read_json(manifest)["sessions"] if each.get("finished")]
        return {
            "state": "complete" if found["complete"] else "incomplete",
            "measure": headline["title"],
            **numbers,
            "seed": protocol.get("seed"),
            "steps": protocol.get("steps"),
            "size": size,
            "finished": sessions[-1] if sessions else None,
            "subset": bool(found["subset"]),
            "path": path,
        }
    except (Refused, LookupError, TypeError):  # one broken run must not hide the others
        return {"state": "broken", **NOTHING, "finished": None, "subset": False, "path": path}


def readable(row: dict[str, Any]) -> dict[str, Any]:
    """A run's row for people: as much of its digest as names it, numbers rounded, the day of its end."""
    low, high = number(row["low"]), number(row["high"])
    return {
        **{key: row[key] for key in ("model", "suite")},
        "run": row["run"][:8],
        "state": row["state"],
        "value": number(row["value"]),
        "interval": None if row["low"] is None else f"{low} to {high}",
        "finished": (row["finished"] or "")[:16].replace("T", " "),
        **{key: row[key] for key in ("seed", "steps", "size", "path")},
    }

"""Why no stored picture fits a new run: what the nearest earlier pictures of the model were made with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from star_bench.errors import StarBenchError
from star_bench.runs.manifest import DRAWN, read_pictures_manifest
from star_bench.runs.plan import PicturePlan


def _differences(mine: dict[str, Any], theirs: dict[str, Any]) -> Iterator[str]:
    for key in DRAWN:
        one, other = theirs[key], mine[key]
        if key == "protocol" and one and other:
            for field in dict.fromkeys((*other, *one)):
                if one.get(field) != other.get(field):
                    yield f"{field} ({_said(one.get(field))}, now {_said(other.get(field))})"
        elif one != other:
            yield {"model": "the weights", "prompts": "the prompts"}.get(key, key)


def _said(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 20 else text[:16] + "..."


def nearest(plan: PicturePlan, runs: Path) -> str | None:
    """A sentence that names what differs between this plan and the most similar stored pictures of its model, or None where
    there are none. runs: where they are kept; nothing is written.
    """
    mine, own = plan.identity(), plan.folder(runs)
    if plan.protocol:
        mine["protocol"] = asdict(plan.protocol)  # what a stored one leaves out is the default
    found: list[tuple[int, str, list[str]]] = []
    for folder in own.parent.glob("*"):
        if folder == own or not (folder / "manifest.json").is_file():
            continue
        try:
            theirs = read_pictures_manifest(folder).model_dump(mode="json")
        except StarBenchError:  # what is wrong with other pictures is told where they are asked for
            continue
        theirs["prompts"] = [list(prompt) for prompt in theirs["prompts"]]
        if differences := list(_differences(mine, theirs)):
            found.append((len(differences), folder.name, differences))
    if not found:
        return None
    _, name, differences = min(found)
    return f"new pictures: the nearest that are stored, {name}, differ in {', '.join(differences)}"

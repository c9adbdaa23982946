"""What a run would cost, from its plan and from what earlier runs on this device took."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from star_bench.files.json import read_json
from star_bench.runs.run import Prepared
from star_bench.runs.store import RunStore


def _seconds_per_image(runs_of_model: Path, device: str, steps: int) -> float | None:
    """Of the newest session that made images of the model on this device with as many steps."""
    newest: tuple[str, float] | None = None
    for path in runs_of_model.glob("*/*/manifest.json"):
        manifest = read_json(path)
        protocol = manifest.get("protocol") or {}
        if (protocol.get("device"), protocol.get("steps")) != (device, steps):
            continue
        for session in manifest["sessions"]:
            made = session.get("images_made")
            if made and session.get("generation_s") is not None and session.get("engine", "local") == "local":
                newest = max(newest or ("", 0.0), (session["started"], session["generation_s"] / made))
    return newest[1] if newest else None


def estimate_cost(prepared: Prepared) -> dict[str, Any]:
    """Images, forwards and, where an earlier run was timed here, minutes. Nothing is generated or written."""
    plan, protocol = prepared.plan, prepared.plan.protocol
    done = len(RunStore(prepared.folder).samples) if prepared.folder.exists() else 0
    missing = max(0, len(plan.items) - done)
    out: dict[str, Any] = {
        "run": str(prepared.folder),
        "metric": plan.metric.identity,
        "prompts": len(plan.prompts),
        "images": len(plan.items),
        "already_made": done,
    }
    if protocol is None:
        return out
    branches = 2 if protocol.guidance_scale > 1 else 1
    seconds = _seconds_per_image(prepared.folder.parents[1], protocol.device, protocol.steps)
    unknown = "unknown: no earlier run of this model was timed on this device"
    minutes = unknown if seconds is None else round(seconds * missing / 60, 1)
    return out | {
        "protocol": protocol.as_dict(),
        "transformer_forwards": missing * protocol.steps * branches,
        "minutes_of_generation": minutes,
    }

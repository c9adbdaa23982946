"""What a run would cost, from its plan and from what earlier runs on this device took."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from star_bench.catalogue import checkpoints, suites
from star_bench.catalogue.protocol import GenerationSettings, settings_of
from star_bench.files.json import read_json
from star_bench.runs.pictures import PictureStore
from star_bench.runs.run import Options, Part, Prepared, generator, needed
from star_bench.runs.workers import make_evaluator


def _seconds_per_image(pictures: Path, device: str, steps: int) -> float | None:
    """Of the newest session that made images of the model on this device with as many steps."""
    newest: tuple[str, float] | None = None
    for path in pictures.glob("*/manifest.json"):
        manifest = read_json(path)
        protocol = manifest.get("protocol") or {}
        if (protocol.get("device"), protocol.get("steps")) != (device, steps):
            continue
        for session in manifest["sessions"]:
            made = session.get("images_made")
            if made and session.get("generation_s") is not None and session.get("engine", "local") == "local":
                newest = max(newest or ("", 0.0), (session["started"], session["generation_s"] / made))
    return newest[1] if newest else None


def estimate_cost(prepared: Prepared) -> list[dict[str, Any]]:
    """Of each suite: images, forwards and, where an earlier run was timed here, minutes. A picture is counted with the first
    suite that needs it. Nothing is generated or written."""
    seen: set[tuple[Path, str, int]] = set()
    return [_of(part, seen) for part in prepared.parts]


def unready(options: Options) -> dict[str, Any] | None:
    """Of a run that can't begin: what is lacking, and the command that gets it, as far as one does; None where all is here.
    Asks no network and imports no torch."""
    evaluators = [make_evaluator(suites.load(name), "cpu") for name in options.suites]
    checkpoint = (
        checkpoints.resolve(options.model, base=options.base) if options.model and not generator(options) else None
    )
    assets = needed(options, checkpoint, evaluators)
    lacking = [asset for asset in assets if asset.lack is not None]
    if not lacking:
        return None
    names = " ".join(dict.fromkeys(asset.name for asset in lacking if asset.fetch))
    out: dict[str, Any] = {
        "ready": False,
        "lacking": [asset.what for asset in lacking],
        "fetch": f"star-bench fetch {names}" if names else None,
    }
    if checkpoint is not None:
        said = options.settings, settings_of(options.protocol), checkpoint.generation
        names_of = GenerationSettings.model_fields
        out["protocol"] = {
            name: next((value for layer in said if (value := getattr(layer, name)) is not None), None)
            for name in names_of
        }
    return out


def _of(part: Part, seen: set[tuple[Path, str, int]]) -> dict[str, Any]:
    plan, protocol = part.plan, part.plan.protocol
    done = PictureStore(part.drawn).rows.keys() if part.drawn.exists() else set()
    keys = [item.key for item in plan.items]
    missing = {(part.drawn, *key) for key in keys if key not in done} - seen
    seen |= missing
    out: dict[str, Any] = {
        "run": str(part.folder),
        "pictures": str(part.drawn),
        "metric": plan.metric.identity,
        "prompts": len(plan.prompts),
        "images": len(keys),
        "already_made": len(keys) - len(missing),
    }
    if protocol is None:
        return out
    branches = 2 if protocol.guidance_scale > 1 else 1
    seconds = _seconds_per_image(part.drawn.parent, protocol.device, protocol.steps)
    unknown = "unknown: no earlier run of this model was timed on this device"
    minutes = unknown if seconds is None else round(seconds * len(missing) / 60, 1)
    return out | {
        "protocol": {"samples": plan.samples, **protocol.as_dict()},
        "transformer_forwards": len(missing) * protocol.steps * branches,
        "minutes_of_generation": minutes,
    }

"""The miniature's model card: what it was made from, how well its parts do, and where it ends."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open

LIMITS = """\
* The pictures are drawings of a toy world. No score here says anything about a model of real pictures.
* The judges know this world alone. On anything else, a photograph for instance, their answers mean nothing.
* The CLIP knows objects, colours, counts and letters. Relations, and which colour belongs to which of two objects, it
  tells little better than chance: as a preference model it is blind to them.
* The generator is imperfect on purpose: its training stops early, so that reinforcement learning has something to gain.
  It merges and doubles objects, mixes up positions, and misspells words.
* Letters are capitals on a fixed pitch; words have three to six of them. Captions outside the grammar are unknown words."""


def sizes(weights: Path) -> dict[str, dict[str, float]]:
    """Folder below `weights` -> parameters in millions and megabytes of its safetensors files."""
    out: dict[str, dict[str, float]] = {}
    for path in sorted(weights.rglob("*.safetensors")):
        row = out.setdefault(path.parent.relative_to(weights).as_posix(), {"parameters_m": 0.0, "megabytes": 0.0})
        with safe_open(path, "numpy") as file:
            for name in file.keys():  # noqa: SIM118 - safe_open is no mapping
                count = 1
                for length in file.get_slice(name).get_shape():
                    count *= length
                row["parameters_m"] = round(row["parameters_m"] + count / 1e6, 3)
        row["megabytes"] = round(row["megabytes"] + path.stat().st_size / 1e6, 2)
    return out


def _table(header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _judges(measured: Mapping[str, Any]) -> str:
    rows = []
    for kind in measured["caption_accuracy"]:
        threshold = "0.9" if kind == "counting" else "0.3"
        judged = [measured[f"verdict_agreement{suffix}"].get(kind, {}) for suffix in ("", "_through_vae")]
        captions = [measured[f"caption_accuracy{suffix}"][kind] for suffix in ("", "_through_vae")]
        values = (*(v.get(threshold) for v in judged), *captions)
        rows.append((kind, threshold if judged[0] else "", *("" if v is None else f"{v:.3f}" for v in values)))
    header = ("kind", "threshold", "verdict", "verdict, through the VAE", "caption", "caption, through the VAE")
    return _table(header, rows)


def markdown(card: Mapping[str, Any]) -> str:
    """README.md of a weights folder, from its card.json."""
    measured, world = card["measured_on_held_out_scenes"], card["world"]
    parts = [(name, f"{row['parameters_m']:.2f}", f"{row['megabytes']:.2f}") for name, row in card["sizes"].items()]
    trained = []
    for part, recipe in card["recipes"].items():
        curve, steps = card["curves"][part], recipe["stop"] or recipe["steps"]
        samples = f"{steps * recipe['batch']:,}"
        trained.append((part, card["seeds"][part], steps, recipe["batch"], samples, curve[0][1], curve[-1][1]))
    colors = ", ".join(f"{value:.3f} ({name} masks)" for name, value in measured["color_accuracy"].items())
    return f"""\
# {card["name"]}

Licence: {card["licence"]}. Made by `star-bench miniature build --world {world["name"]}`, star-bench {card["star_bench"]}.
Everything below, and the whole training curves, are in card.json.

## Data

Scenes drawn by code while training, none stored: {len(world["classes"])} classes ({", ".join(world["classes"])}),
{len(world["colors"])} colours ({", ".join(world["colors"])}), {world["size"]} x {world["size"]} pixels; captions in
GenEval's grammar; signs with words and random capitals, a fixed quarter of all strings held out.

## Parts

{_table(("folder", "million parameters", "MB (fp16)"), parts)}

## Training

{_table(("part", "seed", "steps", "batch", "samples", "first loss", "last loss"), trained)}

## Accuracy on scenes that no training drew

Verdict: share of right GenEval verdicts of detector and CLIP together, half of the scenes faithful to the prompt and
half with one thing changed (200 per kind, the official thresholds). Caption: share of scenes that the CLIP finds nearer
to their caption than to one with a change (200 per kind).

{_judges(measured)}

Colours of cut-out objects, 500 objects: {colors}. VAE, 256 scenes: {measured["vae_psnr_db"]} dB PSNR.

## Limits

{LIMITS}
"""

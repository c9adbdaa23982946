"""GenEval's two judges, put where the suite `geneval` looks for them."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import open_clip
import yaml
from safetensors import SafetensorError

from star_bench.assets.weights import weights_folder
from star_bench.errors import Refused
from star_bench.evaluators.geneval.color import OpenClipColorJudge
from star_bench.evaluators.geneval.detection.architecture import OFFICIAL
from star_bench.evaluators.geneval.detection.convert import PROVENANCE_FILE, convert, staged
from star_bench.evaluators.geneval.prompts import COLORS
from star_bench.evaluators.geneval.published import COLOR_FILE, COLOR_MODEL, COLOR_REPOSITORY
from star_bench.files.atomic import to_json
from star_bench.files.digests import sha256_of

DETECTOR_FOLDER = "geneval/mask2former"
COLOR_FOLDER = "geneval/clip-vit-l-14-quickgelu"
"""Below weights_folder(), as benchmarks/suites/geneval/card.yaml names them."""


def install_detector(checkpoint: Path) -> dict[str, Any]:
    """Converts mmdet's checkpoint into place. Returns its provenance.

    Raises what `convert` raises, and Refused for another network than GenEval's.
    """
    return convert(checkpoint, weights_folder() / DETECTOR_FOLDER, only=OFFICIAL)


def install_color_judge(
    weights: Path, *, commit: str | None = None, out: Path | None = None, model: str = COLOR_MODEL
) -> dict[str, Any]:
    """Writes open_clip's local folder layout for one of its named models and loads it once, strictly.

    commit is the hub's, None for a file from elsewhere. Returns the provenance. Raises Refused for a file that does not
    fit the model, and DiskError.
    """
    if not weights.is_file() or weights.suffix != ".safetensors":
        raise Refused(f"{weights} is no safetensors file", f"give {COLOR_FILE} of {COLOR_REPOSITORY}")
    out = out or weights_folder() / COLOR_FOLDER
    config = open_clip.get_model_config(model)
    preprocessing = dataclasses.asdict(open_clip.transform.PreprocessCfg(size=config["vision_cfg"]["image_size"]))
    with staged(out) as stage:
        shutil.copyfile(weights, stage / COLOR_FILE)
        (stage / "open_clip_config.json").write_bytes(to_json({"model_cfg": config, "preprocess_cfg": preprocessing}))
        try:
            OpenClipColorJudge(stage, COLORS, quick_gelu=bool(config.get("quick_gelu")))
        except (RuntimeError, ValueError, KeyError, SafetensorError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise Refused(f"{weights} does not fit {model} ({reason})", "fetch the file again") from None
        provenance = {
            "source": weights.name,
            "repository": COLOR_REPOSITORY if commit else None,
            "commit": commit,
            "model": model,
            "model_sha256": sha256_of(stage / COLOR_FILE),
            "licence": "MIT (OpenAI CLIP)",
        }
        (stage / PROVENANCE_FILE).write_text(yaml.safe_dump(provenance, sort_keys=False), encoding="utf-8")
    return {"out": str(out), **provenance}

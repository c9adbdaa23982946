"""mmdet's published detector to a folder of safetensors that every detector of ours reads."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import save_file

from star_bench.errors import Refused
from star_bench.evaluators.geneval.detection.architecture import (
    OFFICIAL,
    Architecture,
    swin_config,
    transformers_config,
)
from star_bench.evaluators.geneval.detection.checkpoint_file import read_tensors
from star_bench.evaluators.geneval.detection.detector import PREPROCESSING_FILE, load
from star_bench.evaluators.geneval.detection.layout import to_transformers
from star_bench.evaluators.geneval.detection.preprocess import OFFICIAL_RESIZE
from star_bench.evaluators.geneval.prompts import COCO_CLASSES
from star_bench.evaluators.geneval.published import PUBLISHED
from star_bench.files.atomic import disk_error, to_json
from star_bench.files.digests import sha256_of
from star_bench.version import __version__

PROVENANCE_FILE = "provenance.yaml"


def convert(source: Path, out: Path, *, only: Architecture | None = None) -> dict[str, Any]:
    """Writes config.json, model.safetensors, preprocessing.json and provenance.yaml to `out`; returns the provenance.

    The tensors are mapped strictly, and the result is loaded as the detector loads it before anything appears in `out`:
    a tensor too many, too few or of a wrong shape raises Refused, which names it, and so does a network of other sizes
    than `only`. Raises what `read_tensors` raises, and DiskError.
    """
    architecture, state = to_transformers(read_tensors(source))
    if architecture.classes != len(COCO_CLASSES):
        raise Refused(
            f"{source} knows {architecture.classes} classes, and GenEval's detector COCO's {len(COCO_CLASSES)}",
            "give the instance segmentation checkpoint, not the panoptic one",
        )
    if only not in (None, architecture):
        differ = [key for key, value in vars(architecture).items() if value != getattr(only, key)]
        raise Refused(
            f"{source} holds a Mask2Former of another size than GenEval's detector ({', '.join(differ)})",
            "give mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco",
        )
    state = {name: tensor.to(torch.float32) for name, tensor in state.items()}
    digest = sha256_of(source)
    known = next((each for each in PUBLISHED if digest.startswith(each.sha256)), None)
    with staged(out) as stage:
        weights = stage / "model.safetensors"
        try:
            save_file(state, weights, metadata={"format": "pt"})
        except SafetensorError as error:  # how safetensors tells that the disk is full
            raise OSError(str(error)) from None
        weights.chmod(0o644)  # safetensors writes for the owner alone
        (stage / "config.json").write_bytes(config_json(architecture))
        (stage / PREPROCESSING_FILE).write_bytes(to_json({"resize": vars(OFFICIAL_RESIZE)}))
        load(stage)
        provenance = {
            "source": source.name,
            "source_sha256": digest,
            "recognised_as": known.file if known else None,
            "official_architecture": architecture == OFFICIAL,
            "parameters": sum(tensor.numel() for tensor in state.values()),
            "model_sha256": sha256_of(weights),
            "converter": f"star-bench {__version__}",
            "licence": "Apache-2.0 (mmdetection)" if known else "not stated",
        }
        (stage / PROVENANCE_FILE).write_text(yaml.safe_dump(provenance, sort_keys=False), encoding="utf-8")
    return {"out": str(out), **provenance}


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """A folder beside `out` whose files move there at the end, and that is gone if anything goes wrong."""
    stage = out.with_name(f".{out.name}.partial")
    try:
        shutil.rmtree(stage, ignore_errors=True)
        stage.mkdir(parents=True)
        yield stage
        out.mkdir(exist_ok=True)
        for file in sorted(stage.iterdir()):
            os.replace(file, out / file.name)
    except OSError as error:
        raise disk_error(out, error) from None
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def config_json(architecture: Architecture) -> bytes:
    """transformers' config.json, with what differs from its defaults only: the same whatever its version."""
    return to_json(
        {
            "architectures": ["Mask2FormerForUniversalSegmentation"],
            "model_type": "mask2former",
            "backbone_config": {"model_type": "swin", **swin_config(architecture)},
            **transformers_config(architecture, COCO_CLASSES),
        }
    )

"""GenEval's detector in plain PyTorch: transformers' Mask2Former between the official pre- and post-processing.

Not transformers' image processor (it antialiases) nor its instance post-processing (other thresholds, order and mask
size). Facts: mmdet 2.x, configuration mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import Mask2FormerForUniversalSegmentation

from star_bench.catalogue.cards import Strict, parse
from star_bench.errors import Refused
from star_bench.evaluators.geneval.detection.layout import position_index
from star_bench.evaluators.geneval.detection.postprocess import Detections, postprocess
from star_bench.evaluators.geneval.detection.preprocess import OFFICIAL_RESIZE, Preprocessing, Resize, prepare
from star_bench.files.json import read_config

PREPROCESSING_FILE = "preprocessing.json"
"""In a weights folder: {"resize": {"short": ..., "long": ...}} or {"resize": null}. Without it, the official bounds."""
UNUSED = ("criterion.empty_weight", "encoder.swin.layernorm.weight", "encoder.swin.layernorm.bias")
"""Tensors of transformers' class that no forward reads: the loss's weights, and a norm of a whole Swin classifier."""
DERIVED = ".relative_position_index"
"""Some versions of transformers store it and some don't; one that expects it and does not find it makes it up."""


class Detector(Protocol):
    """What a plugin in `star_bench.detectors` makes: pictures in, detections above a threshold out.

    It is called with a weights folder, and `device` and `preprocessing` by name.
    """

    names: tuple[str, ...]
    """The classes, by class index, as the weights name them."""

    def detect(self, images: Sequence[np.ndarray], thresholds: Sequence[float]) -> list[Detections]:
        """images are uint8 RGB (H, W, 3), of any sizes; of each, only detections with score > its threshold come out."""
        ...


class PreprocessingCard(Strict):
    """PREPROCESSING_FILE: bounds in pixels, or null where pictures go in as they are."""

    resize: dict[Literal["short", "long"], int] | None


def resize_of(folder: Path) -> Resize | None:
    """The size that a weights folder asks for. Raises UsageError for a broken file."""
    path = folder / PREPROCESSING_FILE
    if not path.is_file():
        return OFFICIAL_RESIZE
    bounds = parse(PreprocessingCard, read_config(path), str(path)).resize
    return Resize(**bounds) if bounds else None


def load(folder: Path) -> Mask2FormerForUniversalSegmentation:
    """transformers' Mask2Former from a local safetensors folder, in float32.

    Raises Refused where the folder's tensors are not exactly the network's, naming one that is not.
    """
    try:
        model, loaded = Mask2FormerForUniversalSegmentation.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # told below, by name
        )
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise Refused(
            f"{folder} holds no Mask2Former that can be loaded ({reason})", "convert or fetch the weights again"
        ) from error
    kinds = {
        "is missing": [name for name in loaded["missing_keys"] if not name.endswith((*UNUSED, DERIVED))],
        "has no place in the network": [name for name in loaded["unexpected_keys"] if not name.endswith(DERIVED)],
        "has another shape than its neighbours ask for": [row[0] for row in loaded["mismatched_keys"]],
    }
    for what, names in kinds.items():
        if names:
            more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            raise Refused(f"the detector's tensor {min(names)!r}{more} {what}", "convert or fetch the weights again")
    for name, index in model.named_buffers():
        if name.endswith(DERIVED):
            window = round(index.numel() ** 0.25)
            index.copy_(position_index(window).view_as(index))  # flat in transformers 5, square in 4
    return model


class TransformersDetector:
    """transformers' Mask2Former from a local safetensors folder, in float32. Raises what `load` raises."""

    def __init__(self, folder: Path, *, device: str = "cpu", preprocessing: Preprocessing = "mmdet-2.x") -> None:
        self.model = load(folder)
        self.model.to(device).eval()
        self.device = device
        self.preprocessing = preprocessing
        self.resize = resize_of(folder)
        labels = self.model.config.id2label
        self.names = tuple(labels[i] for i in range(len(labels)))

    @torch.inference_mode()
    def detect(self, images: Sequence[np.ndarray], thresholds: Sequence[float]) -> list[Detections]:
        """Pictures of one size share one forward."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for i, image in enumerate(images):
            groups.setdefault(image.shape, []).append(i)
        out: dict[int, Detections] = {}
        for (height, width, _), members in groups.items():
            stacked = torch.from_numpy(np.stack([images[i] for i in members])).to(self.device)
            ready = prepare(stacked, self.resize, self.preprocessing)
            result = self.model(pixel_values=ready.pixels)
            found = postprocess(
                result.class_queries_logits.float(),
                result.masks_queries_logits.float(),
                padded=ready.padded,
                filled=ready.filled,
                original=(height, width),
                thresholds=[thresholds[i] for i in members],
            )
            out |= zip(members, found, strict=True)
        return [out[i] for i in range(len(images))]

"""The official evaluator's software: mmdet's Mask2Former, from mmdet's configuration, through mmdet's inference.

It reads the same weights folder as TransformersDetector and gives the same detections, one picture after the other.
It is here to be compared with (docs/parity.md), and for those who want the reference itself to judge.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from benchmarks.parity.attention_check import check_attention
from benchmarks.parity.mmcv_stand_in import provide_operators
from star_bench.errors import Refused, UsageError
from star_bench.evaluators.geneval.detection.architecture import Architecture, architecture_from_config
from star_bench.evaluators.geneval.detection.detector import load, resize_of
from star_bench.evaluators.geneval.detection.layout import to_mmdet
from star_bench.evaluators.geneval.detection.postprocess import Detections
from star_bench.evaluators.geneval.detection.preprocess import PAD_MULTIPLE, PAD_VALUE, Preprocessing, Resize

SHIPPED_CONFIG = ".mim/configs/mask2former/mask2former_swin-s-p4-w7-224_8xb2-lsj-50e_coco.py"
"""In mmdet's package: mmdet 3.x's name of the configuration of GenEval's detector."""


@contextmanager
def _quiet() -> Iterator[None]:
    """mmdet warns of old habits of its own, and asks Python to show each warning. They are recorded and dropped."""
    with warnings.catch_warnings(record=True):
        yield


class MmdetDetector:
    """mmdet's Mask2Former on the weights of a converted folder, in float32.

    Raises UsageError where mmdet is not installed, Refused where the folder's tensors are not exactly the network's,
    and where mmcv's deformable attention does not compute on this device what it should.
    """

    def __init__(self, folder: Path, *, device: str = "cpu", preprocessing: Preprocessing = "mmdet-2.x") -> None:
        try:
            with _quiet():
                provide_operators()
                from mmcv.ops import MultiScaleDeformableAttention
                from mmdet.apis import init_detector
        except (ImportError, AssertionError) as error:  # mmdet asserts the versions of what it stands on
            raise UsageError(f"mmdet can't be imported ({error})", "install the extra star-bench[mmdet]") from error
        check_attention(MultiScaleDeformableAttention, device)
        config = load(folder).config
        architecture = architecture_from_config(config)
        with _quiet():
            self.model = init_detector(mmdet_config(architecture), device=device)
            self.pipeline = pipeline(resize_of(folder), preprocessing)
        try:
            state = {name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()}
            self.model.load_state_dict(to_mmdet(architecture, state), strict=True)
        except (OSError, KeyError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise Refused(
                f"mmdet's configuration does not make the network in {folder} ({reason})",
                "use the 'transformers' detector",
            ) from error
        self.names = tuple(config.id2label[i] for i in range(len(config.id2label)))

    def detect(self, images: Sequence[np.ndarray], thresholds: Sequence[float]) -> list[Detections]:
        """One picture after the other, as the official evaluator does."""
        return [self._detect(*pair) for pair in zip(images, thresholds, strict=True)]

    def _detect(self, image: np.ndarray, threshold: float) -> Detections:
        from mmdet.apis import inference_detector

        bgr = np.ascontiguousarray(image[..., ::-1])
        with _quiet():
            found = inference_detector(self.model, bgr, self.pipeline).pred_instances
        order = torch.argsort(found.scores, descending=True, stable=True)
        order = order[found.scores[order] > threshold]
        labels, scores, boxes, masks = (
            part[order].cpu().numpy() for part in (found.labels, found.scores, found.bboxes, found.masks)
        )
        return Detections(labels, scores, boxes, masks)


def mmdet_config(architecture: Architecture) -> Any:
    """mmdet's shipped configuration with the sizes of `architecture` in place of the official ones."""
    import mmdet
    from mmengine.config import Config

    config = Config.fromfile(Path(mmdet.__file__).parent / SHIPPED_CONFIG)
    stages = range(len(architecture.depths))
    config.model.backbone.update(
        embed_dims=architecture.embed_dim,
        patch_size=architecture.patch_size,
        strides=[architecture.patch_size, *(2 for _ in stages[1:])],
        depths=architecture.depths,
        num_heads=architecture.heads,
        window_size=architecture.window,
        init_cfg=None,  # it would download the backbone's pretraining
    )
    head = config.model.panoptic_head
    head.update(
        in_channels=[architecture.embed_dim * 2**stage for stage in stages],
        feat_channels=architecture.width,
        out_channels=architecture.mask_width,
        num_things_classes=architecture.classes,
        num_queries=architecture.queries,
    )
    config.model.panoptic_fusion_head.num_things_classes = architecture.classes
    head.pixel_decoder.strides = [architecture.patch_size * 2**stage for stage in stages]
    encoder, decoder = head.pixel_decoder.encoder, head.transformer_decoder
    encoder.num_layers, decoder.num_layers = architecture.encoder_layers, architecture.decoder_layers
    attentions = (encoder.layer_cfg.self_attn_cfg, decoder.layer_cfg.self_attn_cfg, decoder.layer_cfg.cross_attn_cfg)
    for attention in attentions:
        attention.update(embed_dims=architecture.width, num_heads=architecture.decoder_heads)
    encoder.layer_cfg.ffn_cfg.update(embed_dims=architecture.width, feedforward_channels=architecture.encoder_ffn)
    decoder.layer_cfg.ffn_cfg.update(embed_dims=architecture.width, feedforward_channels=architecture.decoder_ffn)
    for part in (head, head.pixel_decoder):
        part.positional_encoding.num_feats = architecture.width // 2
    return config


def pipeline(resize: Resize | None, preprocessing: Preprocessing) -> Any:
    """mmdet's steps from a BGR array to the network's input; normalising, and padding in 3.x, are the network's own."""
    from mmcv.transforms import Compose

    old = preprocessing == "mmdet-2.x"
    steps: list[Any] = [{"type": "mmdet.LoadImageFromNDArray", "to_float32": not old}]
    if resize:
        steps.append({"type": "mmdet.Resize", "scale": (resize.long, resize.short), "keep_ratio": True})
    if old:
        steps.append(_pad_with_grey)
    return Compose([*steps, {"type": "mmdet.PackDetInputs"}])


def _pad_with_grey(results: dict[str, Any]) -> dict[str, Any]:
    """mmdet 3.x's own padding would call the padded size the picture's, and masks would be stretched over it."""
    from mmcv import impad_to_multiple

    # One value for each channel: OpenCV takes a single one for the first channel's, and pads the others with 0.
    return {**results, "img": impad_to_multiple(results["img"], PAD_MULTIPLE, pad_val=(PAD_VALUE,) * 3)}

"""The miniature's CLIP: a small open_clip model that names colours of cut-out objects and matches captions to scenes.

Its folder is open_clip's local layout, with its own word-level tokenizer inside.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save as to_safetensors
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from star_bench.evaluators.geneval.color import TEMPLATES, crop
from star_bench.miniature.changes import changed_row
from star_bench.miniature.detector import imperfect, mixed_scene
from star_bench.miniature.fit import Recipe, fit
from star_bench.miniature.scenes import KINDS, Scene, World, draw_row, random_row
from star_bench.miniature.tokenizers import WORDS

RECIPE = Recipe(steps=900, batch=96, adam_lr=1.5e-3, muon_lr=0.02)
"""batch: two thirds are scenes with captions, one third cut-out objects."""
PREPROCESS: dict[str, Any] = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bicubic"}
CONTEXT = 20
"""The longest caption, a sign of seven capitals, has 15 tokens."""
SIZE = 64


def tokenizer() -> PreTrainedTokenizerFast:
    """Whole words, and capitals one by one. The end token has the highest number: CLIP's pooling looks for that."""
    special = ["<|pad|>", "<|unknown|>", "<|startoftext|>"]
    letters = [chr(65 + i) for i in range(26)]
    vocabulary = {t: i for i, t in enumerate([*special, '"', "-", *letters, *WORDS, "<|endoftext|>"])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<|unknown|>"))
    words.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Split(Regex("[A-Z]"), "isolated")]
    )
    ends = [(token, vocabulary[token]) for token in ("<|startoftext|>", "<|endoftext|>")]
    words.post_processor = processors.TemplateProcessing("<|startoftext|> $A <|endoftext|>", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        bos_token="<|startoftext|>",
        eos_token="<|endoftext|>",
        unk_token="<|unknown|>",
        pad_token="<|pad|>",
        model_max_length=CONTEXT,
    )


def model_config() -> dict[str, Any]:
    """open_clip's model_cfg. The tokenizer's name only says that one lies in the same folder."""
    return {
        "embed_dim": 96,
        "quick_gelu": True,
        "vision_cfg": {"image_size": SIZE, "patch_size": 8, "width": 96, "layers": 4, "head_width": 32},
        "text_cfg": {
            "context_length": CONTEXT,
            "vocab_size": len(tokenizer()),
            "hf_tokenizer_name": "local",
            "width": 96,
            "heads": 3,
            "layers": 2,
        },
    }


def build() -> open_clip.CLIP:
    """A vision transformer of 64 tokens and a causal text transformer, both 96 wide, with QuickGELU."""
    return open_clip.CLIP(**model_config())


def as_detected(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A mask (H, W) bool exactly, a pixel smaller, a pixel larger, or through half the resolution."""
    grid, cross = mask.astype(np.float32), np.ones((3, 3), np.uint8)
    match int(rng.integers(4)):
        case 0:
            grid = cv2.erode(grid, cross)
        case 1:
            grid = cv2.dilate(grid, cross)
        case 2:
            half = cv2.resize(grid, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
            grid = cv2.resize(half, mask.shape[::-1], interpolation=cv2.INTER_LINEAR)
    changed = np.asarray(grid) > 0.5
    return changed if changed.any() else mask


def _pixels(scenes: list[Scene], rng: np.random.Generator) -> list[np.ndarray]:
    clean = torch.from_numpy(np.stack([s.image for s in scenes])).permute(0, 3, 1, 2).float()
    return list(imperfect(clean, rng).round().byte().permute(0, 2, 3, 1).numpy())


def _tight(mask: np.ndarray) -> np.ndarray:
    ys, xs = np.nonzero(mask)
    return np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])


def caption_batch(world: World, rng: np.random.Generator, count: int) -> tuple[list[np.ndarray], list[str], list[str]]:
    """Pictures, their captions, and for each a caption with one thing changed."""
    scenes, wrong = [], []
    for _ in range(count):
        scene = draw_row(world, rng, random_row(world, rng, str(rng.choice(KINDS))), name_colors=0.3)
        scenes.append(scene)
        wrong.append(str(changed_row(world, rng, scene.metadata, least=2)["prompt"]))
    return _pixels(scenes, rng), [s.caption for s in scenes], wrong


def color_batch(world: World, rng: np.random.Generator, count: int) -> tuple[list[Any], list[str]]:
    """Objects cut out onto grey, and one of GenEval's templates (the same for the whole batch) filled for each."""
    scenes = [mixed_scene(world, rng) for _ in range(count)]
    template = TEMPLATES[rng.integers(len(TEMPLATES))]
    crops, texts = [], []
    for scene, picture in zip(scenes, _pixels(scenes, rng), strict=True):
        item = scene.objects[rng.integers(len(scene.objects))]
        mask = as_detected(item.mask, rng)
        crops.append(crop(picture, _tight(mask), mask))
        texts.append(template.format(color=item.color, name=item.name))
    return crops, texts


def contrastive(images: Tensor, texts: Tensor, captions: list[str], candidates: list[str], scale: Tensor) -> Tensor:
    """CLIP's symmetric loss in which every pair with equal captions is a match.

    images (B, D) with `captions`; texts (M, D) with `candidates`, the first B of which are the captions.
    """
    number = {text: i for i, text in enumerate(dict.fromkeys(candidates))}
    rows = torch.tensor([number[t] for t in captions], device=images.device)
    columns = torch.tensor([number[t] for t in candidates], device=images.device)
    logits = scale * images @ texts.T
    matches = logits.masked_fill(rows[:, None] != columns[None], -math.inf)
    by_image = logits.logsumexp(1) - matches.logsumexp(1)
    by_text = (logits.logsumexp(0) - matches.logsumexp(0))[: len(captions)]
    return (by_image.mean() + by_text.mean()) / 2


def transform() -> Any:
    """The preprocessing that open_clip makes from the saved folder."""
    return open_clip.image_transform(SIZE, is_train=False, **PREPROCESS)


def train(world: World, folder: Path, *, seed: int, device: torch.device) -> open_clip.CLIP:
    """Trains from nothing on scenes against captions (with changed captions among the wrong ones) and on cut-outs."""
    torch.manual_seed(seed)
    model, prepare, words = build(), transform(), tokenizer()

    def encode(pictures: list[Any], texts: list[str]) -> tuple[Tensor, Tensor]:
        pixels = torch.stack([prepare(p) for p in pictures]).to(device)
        ids = words(texts, padding="max_length", max_length=CONTEXT, return_tensors="pt").input_ids.to(device)
        with torch.autocast(device.type, torch.bfloat16):
            seen, read = model.encode_image(pixels), model.encode_text(ids)
        return F.normalize(seen.float(), dim=-1), F.normalize(read.float(), dim=-1)

    def loss(rng: np.random.Generator, count: int) -> Tensor:
        pictures, captions, wrong = caption_batch(world, rng, count * 2 // 3)
        crops, texts = color_batch(world, rng, count // 3)
        scale = model.logit_scale.clamp(max=math.log(100)).exp()
        seen, read = encode([Image.fromarray(p) for p in pictures] + crops, captions + wrong + texts)
        scenes, known = len(pictures), 2 * len(pictures)
        whole = contrastive(seen[:scenes], read[:known], captions, captions + wrong, scale)
        return whole + contrastive(seen[scenes:], read[known:], texts, texts, scale)

    fit("clip", model, loss, RECIPE, folder, seed=seed, device=device)
    return model


def save(model: open_clip.CLIP, folder: Path) -> None:
    """fp16 safetensors, configuration and tokenizer, loadable as "local-dir:<folder>". The model stays as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {k: v.detach().half().contiguous().cpu() for k, v in model.state_dict().items()}
    (folder / "open_clip_model.safetensors").write_bytes(to_safetensors(tensors, metadata={"format": "pt"}))
    config = {"model_cfg": model_config(), "preprocess_cfg": PREPROCESS}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    tokenizer().save_pretrained(folder)
    named = folder / "tokenizer_config.json"  # transformers 5 writes a class that 4 does not know; both know this one
    named.write_text(named.read_text().replace("TokenizersBackend", "PreTrainedTokenizerFast"))

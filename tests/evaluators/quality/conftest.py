"""Small judges with random weights: a CLIP as open_clip stores it, and a BLIP under ImageReward's published names."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor

TINY_CLIP = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 16, "layers": 1, "head_width": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="session")
def pictures() -> list[np.ndarray]:
    """No two of one shape; one wide, one tall, one square, of larger grains, or it would be taken for a failed picture."""
    rng = np.random.default_rng(0)
    wide, tall, small = (rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((40, 60), (48, 33), (32, 32)))
    return [wide, tall, small.repeat(2, 0).repeat(2, 1)]


def random_clip(config: dict[str, Any], seed: int) -> Any:
    import open_clip

    torch.manual_seed(seed)
    model = open_clip.CLIP(**config).eval().requires_grad_(False)
    for tensor in model.parameters():
        tensor += 0.1 * torch.randn(tensor.shape)
    return model


@pytest.fixture(scope="session")
def clip_model() -> Any:
    """What lies in clip_folder."""
    return random_clip({**TINY_CLIP, "quick_gelu": True}, seed=0)


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory, clip_model: Any) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    config = {"model_cfg": {**TINY_CLIP, "quick_gelu": True}, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    state = {name: tensor.contiguous() for name, tensor in clip_model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="session")
def hps_architecture(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name under which open_clip knows the small CLIP, by its own registry."""
    import open_clip

    path = tmp_path_factory.mktemp("config") / "tiny-hps.json"
    path.write_text(json.dumps(TINY_CLIP))
    open_clip.add_model_config(path)
    return path.stem


@pytest.fixture(scope="session")
def hps_model() -> Any:
    """What lies in hps_folder; its numbers are half precision's, as those of the published file are."""
    model = random_clip(TINY_CLIP, seed=1)
    for tensor in model.parameters():
        tensor.copy_(tensor.half())
    return model


@pytest.fixture
def hps_folder(tmp_path: Path, hps_model: Any) -> Path:
    """As HPSv2.1 is published: below "state_dict", beside other things."""
    folder = tmp_path / "hps"
    folder.mkdir()
    state = {name: tensor.half() for name, tensor in hps_model.state_dict().items()}
    torch.save({"epoch": 1, "state_dict": state}, folder / "HPS_tiny.pt")
    return folder


def head_tensors(width: int, prefix: str, draw: torch.Generator) -> dict[str, Tensor]:
    """Of width-1024-128-64-16-1, by their published names."""
    widths = (width, 1024, 128, 64, 16, 1)
    out = {}
    for number, (many, few) in zip((0, 2, 4, 6, 7), itertools.pairwise(widths), strict=True):
        out[f"{prefix}layers.{number}.weight"] = torch.randn((few, many), generator=draw) / many**0.5
        out[f"{prefix}layers.{number}.bias"] = torch.randn(few, generator=draw) / 10
    return out


@pytest.fixture(scope="session")
def aesthetic_state() -> dict[str, Tensor]:
    """For the small CLIP."""
    return head_tensors(8, "", torch.Generator().manual_seed(3))


@pytest.fixture
def aesthetic_folder(tmp_path: Path, aesthetic_state: dict[str, Tensor]) -> Path:
    """As LAION's head is published."""
    folder = tmp_path / "aesthetic"
    folder.mkdir()
    torch.save(aesthetic_state, folder / "sac+logos+ava1-l14-linearMSE.pth")
    return folder


@pytest.fixture(scope="session")
def sizes() -> dict[str, int]:
    """Of the small BLIP below; no two are the same where a mistake could confuse them."""
    return {
        "image": 32,
        "patch": 16,
        "vision_width": 32,
        "vision_layers": 2,
        "vision_heads": 4,
        "text_width": 24,
        "text_layers": 3,
        "text_heads": 3,
        "vocabulary": 40,
        "positions": 50,
    }


def _lively(name: str, shape: tuple[int, ...], draw: torch.Generator) -> Tensor:
    """Weights under which pictures and words show in the reward."""
    numbers = torch.randn(shape, generator=draw)
    if len(shape) > 1:
        return numbers * 2 / shape[-1] ** 0.5
    return 1 + numbers / 5 if "norm" in name.lower() and name.endswith("weight") else numbers / 5


@pytest.fixture(scope="session")
def image_reward_state() -> dict[str, Tensor]:
    """Names and shapes as the published code builds them, projections and position numbers included."""
    draw = torch.Generator().manual_seed(2)
    seen, read = 32, 24
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, out: int, into: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (out, into), (out,)

    def norm(name: str, width: int) -> None:
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (width,)

    vision, text = "blip.visual_encoder", "blip.text_encoder"
    shapes[f"{vision}.cls_token"], shapes[f"{vision}.pos_embed"] = (1, 1, seen), (1, 5, seen)
    shapes[f"{vision}.patch_embed.proj.weight"], shapes[f"{vision}.patch_embed.proj.bias"] = (seen, 3, 16, 16), (seen,)
    for i in range(2):
        block = f"{vision}.blocks.{i}"
        norm(f"{block}.norm1", seen)
        linear(f"{block}.attn.qkv", 3 * seen, seen)
        linear(f"{block}.attn.proj", seen, seen)
        norm(f"{block}.norm2", seen)
        linear(f"{block}.mlp.fc1", 4 * seen, seen)
        linear(f"{block}.mlp.fc2", seen, 4 * seen)
    norm(f"{vision}.norm", seen)
    shapes[f"{text}.embeddings.word_embeddings.weight"] = (40, read)
    shapes[f"{text}.embeddings.position_embeddings.weight"] = (50, read)
    norm(f"{text}.embeddings.LayerNorm", read)
    for i in range(3):
        layer = f"{text}.encoder.layer.{i}"
        for part, into in (("attention", read), ("crossattention", seen)):
            linear(f"{layer}.{part}.self.query", read, read)
            linear(f"{layer}.{part}.self.key", read, into)
            linear(f"{layer}.{part}.self.value", read, into)
            linear(f"{layer}.{part}.output.dense", read, read)
            norm(f"{layer}.{part}.output.LayerNorm", read)
        linear(f"{layer}.intermediate.dense", 4 * read, read)
        linear(f"{layer}.output.dense", read, 4 * read)
        norm(f"{layer}.output.LayerNorm", read)
    linear("blip.vision_proj", 256, seen)
    linear("blip.text_proj", 256, read)
    state = {name: _lively(name, shape, draw) for name, shape in shapes.items()}
    state[f"{text}.embeddings.position_ids"] = torch.arange(50)[None]
    return {**state, **head_tensors(read, "mlp.", draw)}


@pytest.fixture
def image_reward_folder(tmp_path: Path, image_reward_state: dict[str, Tensor]) -> Path:
    folder = tmp_path / "image-reward"
    folder.mkdir()
    torch.save(image_reward_state, folder / "ImageReward.pt")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"a photo of red car blue chair".split()]
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder

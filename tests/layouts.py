"""Folders that look like those of published pipelines to code that reads names and configurations, and no tensor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

Parts = dict[str, Any]

NONE: Final = [None, None]
CLIP: Final = ["transformers", "CLIPTextModel"]
CLIP_PROJECTED: Final = ["transformers", "CLIPTextModelWithProjection"]
CLIP_TOKENIZER: Final = ["transformers", "CLIPTokenizer"]
T5: Final = ["transformers", "T5EncoderModel"]
VAE: Final = ["diffusers", "AutoencoderKL"]
UNET: Final = ["diffusers", "UNet2DConditionModel"]
FLOW: Final = ["diffusers", "FlowMatchEulerDiscreteScheduler"]

SD3: Final[Parts] = {
    "_class_name": "StableDiffusion3Pipeline",
    "feature_extractor": NONE,
    "image_encoder": NONE,
    "scheduler": FLOW,
    "text_encoder": CLIP_PROJECTED,
    "text_encoder_2": CLIP_PROJECTED,
    "text_encoder_3": T5,
    "tokenizer": CLIP_TOKENIZER,
    "tokenizer_2": CLIP_TOKENIZER,
    "tokenizer_3": ["transformers", "T5TokenizerFast"],
    "transformer": ["diffusers", "SD3Transformer2DModel"],
    "vae": VAE,
}
SDXL: Final[Parts] = {
    "_class_name": "StableDiffusionXLPipeline",
    "force_zeros_for_empty_prompt": True,
    "feature_extractor": NONE,
    "image_encoder": NONE,
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    "text_encoder": CLIP,
    "text_encoder_2": CLIP_PROJECTED,
    "tokenizer": CLIP_TOKENIZER,
    "tokenizer_2": CLIP_TOKENIZER,
    "unet": UNET,
    "vae": VAE,
}
SD15: Final[Parts] = {
    "_class_name": "StableDiffusionPipeline",
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": CLIP,
    "tokenizer": CLIP_TOKENIZER,
    "unet": UNET,
    "vae": VAE,
}
KANDINSKY3: Final[Parts] = {
    "_class_name": "Kandinsky3Pipeline",
    "movq": ["diffusers", "VQModel"],
    "scheduler": ["diffusers", "DDPMScheduler"],
    "text_encoder": T5,
    "tokenizer": ["transformers", "T5TokenizerFast"],
    "unet": ["diffusers", "Kandinsky3UNet"],
}
ODD: Final[Parts] = {
    "_class_name": "HiDreamImagePipeline",
    "_ignore_files": ["a.safetensors"],
    "guider": ["diffusers", "ClassifierFreeGuidance"],
    "processor": ["transformers", "Glm46VProcessor"],
    "scheduler": FLOW,
    "text_encoder_4": ["transformers", "LlamaForCausalLM"],
    "text_encoder_out_layers": [10, 20, 30],
    "tokenizer_4": ["transformers", "PreTrainedTokenizerFast"],
    "transformer": ["diffusers", "HiDreamImageTransformer2DModel"],
    "vae": VAE,
}
"""What no layout that is drawn today has: guidance, a processor, a fourth text encoder, numbers in a list."""


def lay_out(folder: Path, listed: Parts, *, without: tuple[str, ...] = ()) -> Path:
    """A folder that model_index.json describes. A part's weights are its name. without: paths to leave out."""
    for name, value in listed.items():
        if name.startswith("_") or not isinstance(value, list) or not isinstance(value[0], str):
            continue
        for file, content in _files(name, *value).items():
            if f"{name}/{file}" not in without:
                (folder / name).mkdir(parents=True, exist_ok=True)
                (folder / name / file).write_bytes(content)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model_index.json").write_text(json.dumps(listed))
    return folder


def _files(name: str, library: str, kind: str) -> dict[str, bytes]:
    if "Tokenizer" in kind:
        return {"tokenizer_config.json": b"{}", "vocab.json": b"{}", "merges.txt": b"#"}
    for ending, file in (("Scheduler", "scheduler"), ("Processor", "preprocessor"), ("Guidance", "guider")):
        if kind.endswith(ending):
            return {f"{file}_config.json": b"{}"}
    weights = "diffusion_pytorch_model" if library == "diffusers" else "model"
    return {"config.json": b"{}", f"{weights}.safetensors": name.encode()}

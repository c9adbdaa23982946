"""A tiny random SD3 pipeline, built offline from stock classes, and a LoRA for it."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    ByT5Tokenizer,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

from star_bench.assets.model_files import LocalCheckpoint, content_digest

WORDS = ["a", "photo", "of", "red", "green", "blue", "apple", "bus", "kite", "two"]


def word_tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {word: index for index, word in enumerate(["<pad>", "<bos>", "<eos>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 1), ("<eos>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=12,
        **{f"{name}_token": f"<{name}>" for name in ("pad", "bos", "eos", "unk")},
    )


def clip() -> CLIPTextModelWithProjection:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = CLIPTextConfig(vocab_size=len(WORDS) + 4, max_position_embeddings=12, projection_dim=16, **sizes, **ids)
    return CLIPTextModelWithProjection(config)


def tiny_sd3() -> StableDiffusion3Pipeline:
    torch.manual_seed(0)
    t5 = T5Config(vocab_size=259, d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4)
    pipe = StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=4,
            out_channels=4,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=4,
            joint_attention_dim=32,
            caption_projection_dim=32,
            pooled_projection_dim=32,
            pos_embed_max_size=8,
            qk_norm="rms_norm",
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3),
        vae=AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(8, 16),
            layers_per_block=1,
            latent_channels=4,
            norm_num_groups=4,
            sample_size=16,
            scaling_factor=1.5,
            shift_factor=0.06,
            mid_block_add_attention=False,
            use_quant_conv=False,
            use_post_quant_conv=False,
        ),
        text_encoder=clip(),
        tokenizer=word_tokenizer(),
        text_encoder_2=clip(),
        tokenizer_2=word_tokenizer(),
        text_encoder_3=T5EncoderModel(t5),
        tokenizer_3=ByT5Tokenizer(extra_ids=0),
    )
    # Random layers of the usual size hardly look at the text, and the VAE's pictures are flat: turn both up.
    with torch.no_grad():
        for name, weight in pipe.transformer.named_parameters():
            if weight.ndim == 2:
                weight.mul_(3 if "norm" in name or "embed" in name else 2)
        pipe.vae.decoder.conv_out.weight.mul_(8)
    for part in (pipe.transformer, pipe.vae, pipe.text_encoder, pipe.text_encoder_2, pipe.text_encoder_3):
        part.eval()
    return pipe


def local(folder: Path, lora: Path | None = None) -> LocalCheckpoint:
    return LocalCheckpoint(folder, lora, None, content_digest(folder, lora))


def adapter() -> tuple[LoraConfig, dict[str, torch.Tensor]]:
    model = tiny_sd3().transformer
    config = LoraConfig(r=2, lora_alpha=4, target_modules=["attn.to_q", "attn.to_out.0", "attn.add_k_proj"])
    inject_adapter_in_model(config, model, adapter_name="default")
    generator = torch.Generator().manual_seed(1)
    state = {
        key: torch.randn(value.shape, generator=generator) * 0.5
        for key, value in get_peft_model_state_dict(model, adapter_name="default").items()
    }
    return config, state


def rewrite(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))

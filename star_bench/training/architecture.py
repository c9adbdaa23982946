"""What can be known of a model before its weights are here: shapes, parameters, FLOPs and bytes of its forwards.

Everything is computed from the transformer's configuration, so that the same code speaks of SD3.5-Medium and of the
miniature. Counts of FLOPs take a multiplication and an addition for two, as torch.utils.flop_counter does; norms,
activation functions and the softmax are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import SD3Transformer2DModel
from peft import LoraConfig
from safetensors import safe_open

from star_bench.assets import model_files
from star_bench.catalogue.checkpoints import Checkpoint
from star_bench.catalogue.model_parts import VARIANTS, parts_of
from star_bench.errors import MissingWeights, Refused
from star_bench.files.json import read_config
from star_bench.training.policy import LORA_TARGETS

CLIP_TOKENS: Final = 77  # of CLIP's tokenizer, which SD3 pads every prompt to

SD35_MEDIUM: Final = "stabilityai/stable-diffusion-3.5-medium"
SD35_MEDIUM_TRANSFORMER: Final[Mapping[str, Any]] = {
    # transformer/config.json of the repository above, which is gated; a public copy of its snapshot b940f670 is at
    # huggingface.co/Prgckwb/trpfrog-sd3.5-medium.
    "sample_size": 128,
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 16,
    "num_layers": 24,
    "attention_head_dim": 64,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "caption_projection_dim": 1536,
    "pooled_projection_dim": 2048,
    "pos_embed_max_size": 384,
    "dual_attention_layers": tuple(range(13)),
    "qk_norm": "rms_norm",
}
SD35_MEDIUM_TEXT_ENCODERS: Final[Mapping[str, int]] = {
    # Parameters, counted by building transformers' classes with the published sizes.
    "text_encoder": 123_650_304,  # CLIP ViT-L/14's, with projection
    "text_encoder_2": 694_659_840,  # OpenCLIP bigG/14's, with projection
    "text_encoder_3": 4_762_310_656,  # T5 v1.1 XXL's encoder
}
SD35_MEDIUM_VAE: Final = 83_819_683  # AutoencoderKL, 16 channels, counted in the same way
SD35_MEDIUM_VAE_WIDTHS: Final = (128, 256, 512, 512)  # its block_out_channels


@dataclass(frozen=True)
class Architecture:
    """transformer: SD3Transformer2DModel's configuration, complete. text_encoders: their parameters by folder.

    transformer_numbers counts parameters and the position table, which is stored with them. vae: parameters;
    vae_widths: its block_out_channels. clip_tokens: to which a prompt is padded for the CLIPs. measured: whether this
    was read from files on this machine, not from the table above.
    """

    transformer: Mapping[str, Any]
    transformer_numbers: int
    text_encoders: Mapping[str, int]
    vae: int
    vae_widths: tuple[int, ...]
    clip_tokens: int
    measured: bool

    @property
    def width(self) -> int:
        """Channels of a token inside the transformer."""
        return int(self.transformer["num_attention_heads"] * self.transformer["attention_head_dim"])

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(C, H, W) of the latents of a picture of so many pixels."""
        scale = 2 ** (len(self.vae_widths) - 1)
        return int(self.transformer["in_channels"]), height // scale, width // scale

    def image_tokens(self, height: int, width: int) -> int:
        """Of a picture of so many pixels."""
        _, rows, columns = self.latent_shape(height, width)
        patch = int(self.transformer["patch_size"])
        return (rows // patch) * (columns // patch)


def architecture_of(checkpoint: Checkpoint) -> Architecture:
    """From the checkpoint's files on this machine; where SD3.5-Medium's are not, from the table above. No network.

    Raises MissingWeights where nothing is known, Refused for a pipeline that is not SD3's.
    """
    try:
        folder = model_files.locate(checkpoint, fetch=False).folder
    except MissingWeights:
        if checkpoint.source.hub != SD35_MEDIUM:
            raise
        config, numbers = _transformer(SD35_MEDIUM_TRANSFORMER)
        return Architecture(
            transformer=config,
            transformer_numbers=numbers,
            text_encoders=SD35_MEDIUM_TEXT_ENCODERS,
            vae=SD35_MEDIUM_VAE,
            vae_widths=SD35_MEDIUM_VAE_WIDTHS,
            clip_tokens=CLIP_TOKENS,
            measured=False,
        )
    parts = parts_of(folder)
    if "transformer" not in parts or "dual_attention_layers" not in (said := _config(folder / "transformer")):
        raise Refused(
            f"{checkpoint.name} has no transformer of SD3's kind", "name a Stable Diffusion 3 or 3.5 checkpoint"
        )
    config, numbers = _transformer(said)
    tokenizer = read_config(folder / "tokenizer" / "tokenizer_config.json")
    return Architecture(
        transformer=config,
        transformer_numbers=numbers,
        text_encoders={part: _numbers_in(folder / part) for part in parts if part.startswith("text_encoder")},
        vae=_numbers_in(folder / "vae"),
        vae_widths=tuple(_config(folder / "vae")["block_out_channels"]),
        clip_tokens=int(tokenizer.get("model_max_length", CLIP_TOKENS)),
        measured=True,
    )


def _config(part: Path) -> dict[str, Any]:
    return read_config(part / "config.json")


def _empty_transformer(config: Mapping[str, Any]) -> Any:
    """SD3's transformer with shapes and no numbers."""
    with torch.device("meta"):
        return SD3Transformer2DModel.from_config(dict(config))


def _transformer(config: Mapping[str, Any]) -> tuple[Mapping[str, Any], int]:
    """The configuration with diffusers' defaults filled in, and how many numbers such a transformer holds."""
    model = _empty_transformer(config)
    return dict(model.config), sum(tensor.numel() for tensor in model.state_dict().values())


def _numbers_in(part: Path) -> int:
    """Numbers in a folder's safetensors files, from their headers alone."""
    total = 0
    for path in sorted(part.glob("*.safetensors")):
        if any(path.match(pattern) for pattern in VARIANTS):
            continue
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 - a safetensors file can't be iterated over
                size = 1
                for side in file.get_slice(name).get_shape():
                    size *= side
                total += size
    return total


def lora_size(architecture: Architecture, rank: int) -> tuple[int, int]:
    """Modules and parameters of the policy's LoRA, by putting one on an empty transformer."""
    model = _empty_transformer(architecture.transformer)
    model.requires_grad_(False)
    with torch.device("meta"):
        model.add_adapter(LoraConfig(r=rank, target_modules=list(LORA_TARGETS)))
    sizes = [p.numel() for p in model.parameters() if p.requires_grad]
    return len(sizes) // 2, sum(sizes)


def full_size(architecture: Architecture) -> tuple[int, int]:
    """Parameters of the transformer, without the position table, and of its largest block."""
    model = _empty_transformer(architecture.transformer)
    blocks = [sum(p.numel() for p in block.parameters()) for block in model.transformer_blocks]
    return sum(p.numel() for p in model.parameters()), max(blocks)


@dataclass(frozen=True)
class Flops:
    """Of one sample through the transformer once, without guidance.

    forward: of the base model. lora: what the LoRA adds to it. backward: the gradient of what is trained, through
    everything that it depends on; what a fused attention kernel computes a second time is left out.
    """

    forward: float
    lora: float
    backward: float


def transformer_flops(architecture: Architecture, *, image_tokens: int, text_tokens: int, rank: int | None) -> Flops:
    """rank: the LoRA's; None where all weights are trained, and every layer's backward costs twice its forward, but for the
    gradient of what is put in. Under a LoRA the frozen layers' weights need no gradients, so a linear layer's backward
    costs its forward, once, and what stands before the first LoRA costs nothing. Within 1 % of torch's own count:
    tests/training/test_estimate.py."""
    config, d = architecture.transformer, architecture.width
    layers, dual_layers = int(config["num_layers"]), set(config["dual_attention_layers"])
    patch = int(config["patch_size"]) ** 2
    pooled, joint = int(config["pooled_projection_dim"]), int(config["joint_attention_dim"])
    n, text, tokens = image_tokens, text_tokens, image_tokens + text_tokens
    square = 2 * d * d  # of one token through a layer from width to width
    proj_out = 2 * n * d * patch * int(config["out_channels"])
    embedders = 2 * n * patch * int(config["in_channels"]) * d + 2 * text * joint * d
    first = embedders + 2 * 256 * d + 2 * pooled * d  # and of the timestep's 256 sinusoids, and of the pooled text
    forward = first + 2 * square + proj_out + 2 * square  # and the last norm's scale and shift
    backward, lora = float(proj_out), 0.0
    for block in range(layers):
        is_last, is_dual = block == layers - 1, block in dual_layers
        # Queries, keys and values 3, output 1, feed-forward 8; the last block's text goes no further than 3.
        linear = 12 * n + (3 if is_last else 12) * text
        modulation = (9 if is_dual else 6) + (2 if is_last else 6)
        joint_attention = 4 * tokens**2 * d
        image_attention = 4 * n**2 * d + 4 * n * square if is_dual else 0
        forward += (linear + modulation) * square + joint_attention + image_attention
        lora += 2 * (rank or 0) * 2 * d * (4 * n + (3 if is_last else 4) * text)
        is_first = block == 0
        backward += (linear - (3 * tokens if is_first else 0)) * square + 2 * joint_attention
        if is_dual and not is_first:
            backward += 2 * 4 * n**2 * d + 4 * n * square
    return Flops(forward, lora, 2 * forward - first if rank is None else backward + 2 * lora)


@dataclass(frozen=True)
class PerChannel:
    """Bytes per token and channel. Read off what autograd keeps (see tests/training/test_estimate.py) with fused attention
    and no compilation.

    joint: a block's, kept. last_text: the last block's text, which has no output and no feed-forward. dual: the image-only
    attention. forward, backward: not per layer but of the whole, the most that is alive at once beyond what is kept,
    measured with the peak of live tensors on a CPU, rounded up.
    """

    joint: int
    last_text: int
    dual: int
    forward: int
    backward: int


# By the h bytes of the base's numbers. The LoRA is float32. In a block's joint part: the two norms' inputs 2 h; queries and
# keys before their norms 2 h; what attention takes and gives 4 h; before the GELU, 4 widths, 4 h; the LoRA's own float32
# copies of its inputs 4 x 4 and the norms' of queries and keys 2 x 4. In float32 there are no copies but two: the LoRA's
# common input and the attention's output.
LORA: Final = {2: PerChannel(48, 34, 20, 29, 12), 4: PerChannel(56, 32, 24, 55, 22)}
# Weights ask for more: also kept are the inputs of all linear layers, of the modulations' products, and of the gates'.
ALL_WEIGHTS: Final = {2: PerChannel(59, 33, 29, 28, 5), 4: PerChannel(101, 49, 41, 55, 10)}


@dataclass(frozen=True)
class Activations:
    """Bytes for one sample through the transformer once, without guidance.

    kept: what autograd keeps from forward to backward. checkpointed: the same with gradient checkpointing, every
    block's inputs. block: the largest block's part of `kept`, which is there while checkpointing makes it again.
    forward, backward: at most in use beside that while the one or the other runs.
    """

    kept: float
    checkpointed: float
    block: float
    forward: float
    backward: float

    def update(self, *, checkpointing: bool, reference: bool) -> float:
        """The peak of a forward and its backward, with the reference's forward, if there is one, in between."""
        held = self.checkpointed if checkpointing else self.kept
        again = self.block if checkpointing else 0.0
        return held + max(self.forward if reference else 0.0, again + self.backward)


def activations(
    architecture: Architecture, *, image_tokens: int, text_tokens: int, number_bytes: int, all_weights: bool = False
) -> Activations:
    """number_bytes: that forwards compute in, 2 or 4. all_weights: trained, and not a LoRA. Within 10 % of what was
    measured on small models."""
    d, h = architecture.width, number_bytes
    cost = (ALL_WEIGHTS if all_weights else LORA)[h]
    layers, dual_layers = (
        int(architecture.transformer["num_layers"]),
        set(architecture.transformer["dual_attention_layers"]),
    )
    tokens = image_tokens + text_tokens
    joint = d * tokens * cost.joint
    dual = d * image_tokens * cost.dual
    missing = d * text_tokens * (cost.joint - cost.last_text)
    if not all_weights:
        dual_layers -= {0}  # it depends on no LoRA
    return Activations(
        kept=layers * joint - missing + len(dual_layers) * dual,
        checkpointed=layers * d * tokens * h,
        block=joint + (dual if dual_layers else 0),
        forward=d * tokens * cost.forward,
        backward=d * tokens * cost.backward,
    )


def decode_bytes(architecture: Architecture, *, height: int, width: int) -> float:
    """At most in use while the VAE decodes one picture in float32, without its weights and without what a convolution's
    algorithm may ask for.

    Three maps of the last upsampling's width at full size: its result, normalised, and activated. Measured for SD3.5's
    VAE at 512 px: 3.001.
    """
    widths = architecture.vae_widths
    return 3.0 * 4 * height * width * widths[min(1, len(widths) - 1)]

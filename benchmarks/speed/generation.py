"""What star-bench's generation costs over plain diffusers loops that make the same pictures from the same noise.

Only ratios within one run, as the other benchmarks here. Before the clock starts all ways must have made the same
pictures in float32, but for rounding. On a GPU also SD3.5-Medium's real architecture with random weights: pictures per
second, and the share that its FLOPs are of what a large matrix product reaches on the same device.

    python -m benchmarks.speed.generation [--device auto|cpu|cuda] [--rounds N] [--quick] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import PIL.Image
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from torch import nn

from benchmarks.speed.measuring import in_rounds, interval, seconds, setting, table
from benchmarks.speed.random_sd3 import SHIFT, T5_TOKENS
from benchmarks.speed.training import TINY_TRANSFORMER
from star_bench.assets import model_files
from star_bench.catalogue import checkpoints
from star_bench.catalogue.protocol import GenerationSettings, Protocol
from star_bench.files.atomic import to_json, write_atomically
from star_bench.generation.noise import latent_noise
from star_bench.generation.pipeline import load
from star_bench.generation.quiet import quiet_libraries
from star_bench.generation.sampler import Embedding, Sampler, to_uint8
from star_bench.runs.draw import generate
from star_bench.runs.engines.base import Settings
from star_bench.runs.engines.local import LocalEngine
from star_bench.runs.pictures import PictureStore
from star_bench.runs.plan import Item
from star_bench.runs.progress import Silent
from star_bench.runs.run import Options, choose_device, prepare
from star_bench.runs.workers import generating
from star_bench.training.architecture import (
    CLIP_TOKENS,
    SD35_MEDIUM_TRANSFORMER,
    SD35_MEDIUM_VAE_WIDTHS,
    architecture_of,
)
from star_bench.training.architecture import transformer_flops as flops_of

GOALS = {"plain loop / star-bench": 1.5, "utilisation": 0.45}
"""The project's, on a GPU."""
LIBRARIES = ("torch", "diffusers", "transformers", "pillow")
PROMPTS, SAMPLES, BATCH = 8, 4, 8
NETWORK_BATCH = 8
MATMUL = 8192  # rows and columns of the product that is the ceiling


class Miniature:
    """The same pictures, made and written to disk in three ways. Loading is not timed."""

    def __init__(self, device: str, folder: Path, steps: int, dtype: str = "auto") -> None:
        options = Options(
            suites=("geneval-miniature",),
            model="miniature",
            limit=PROMPTS,
            samples=SAMPLES,
            device=device,
            dtype=dtype,
            runs=folder,
            settings=GenerationSettings(steps=steps),
        )
        (part,) = prepare(options).parts
        plan = part.plan
        assert plan.protocol is not None
        self.folder, self.protocol = folder, plan.protocol
        self.batches = plan.batches(BATCH)
        local = model_files.locate(checkpoints.resolve("miniature"))
        self.pipe = load(local, dtype=plan.protocol.dtype, device=device)
        self.sampler = Sampler(self.pipe, plan.protocol)

    def star_bench(self) -> list[np.ndarray]:
        """As a run does: embeddings kept, batches over prompts, PNG files synced with a row each."""
        self.sampler._embeddings.clear()
        out = self._fresh("star-bench")
        store = PictureStore(out)
        worker = generating(self.sampler, lambda _: None)
        for _ in generate(self.batches, store, lambda: worker, LocalEngine(Settings()), Silent()):
            pass
        items = [item for batch in self.batches for item in batch]
        return [np.asarray(PIL.Image.open(store.image_path(item.key))) for item in items]

    def per_prompt(self) -> list[np.ndarray]:
        """A call of the pipeline per prompt, as GenEval's script has it."""
        return self._plain([self.batches_of_prompt(i) for i in range(PROMPTS)])

    def batched(self) -> list[np.ndarray]:
        """A call per batch, over prompts."""
        return self._plain(self.batches)

    def apart(self) -> dict[str, int]:
        """The largest difference of a pixel, of 255, between each plain loop's pictures and star-bench's."""
        ours = np.stack(self.star_bench()).astype(int)
        ways = {"per prompt": self.per_prompt, "batched": self.batched}
        return {name: int(np.abs(ours - np.stack(way())).max()) for name, way in ways.items()}

    def batches_of_prompt(self, number: int) -> list[Item]:
        items = [item for batch in self.batches for item in batch]
        return items[number * SAMPLES : (number + 1) * SAMPLES]

    def _plain(self, batches: Sequence[Sequence[Item]]) -> list[np.ndarray]:
        protocol, made = self.protocol, []
        out = self._fresh("plain")
        for batch in batches:
            noise = [latent_noise(protocol.seed, item.prompt.id, item.k, self.sampler.latent_shape) for item in batch]
            latents = self.pipe(
                prompt=[item.prompt.text for item in batch],
                negative_prompt=[protocol.negative_prompt] * len(batch),
                latents=torch.stack(noise).to(self.pipe.device, self.pipe.transformer.dtype),
                height=protocol.height,
                width=protocol.width,
                num_inference_steps=protocol.steps,
                guidance_scale=protocol.guidance_scale,
                max_sequence_length=protocol.max_sequence_length,
                output_type="latent",
            ).images
            for item, picture in zip(batch, map(to_uint8, self.sampler.decode(latents)), strict=True):
                assert picture is not None
                PIL.Image.fromarray(picture).save(out / f"{item.prompt.id}-{item.k}.png")
                made.append(picture)
        return made

    def _fresh(self, name: str) -> Path:
        out = self.folder / name
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        return out


def miniature(device: str, rounds: int, steps: int) -> dict[str, Any]:
    with TemporaryDirectory() as name:
        # In float32: in half precision a GPU may round otherwise for each batch size.
        apart = Miniature(device, Path(name), steps, "float32").apart()
        assert max(apart.values()) <= 1, f"the ways don't make the same pictures: {apart}"
        ways = Miniature(device, Path(name), steps)
        variants: dict[str, Callable[[int], float]] = {
            "star-bench": lambda _: seconds(ways.star_bench, device),
            "per prompt": lambda _: seconds(ways.per_prompt, device),
            "batched": lambda _: seconds(ways.batched, device),
        }
        took = in_rounds(variants, rounds)
    ratio = {
        key: interval([a / b for a, b in zip(took[key], took["star-bench"], strict=True)])
        for key in ("per prompt", "batched")
    }
    return {
        "pictures": PROMPTS * SAMPLES,
        "steps": steps,
        "batch": BATCH,
        "rounds": rounds,
        "largest difference of a pixel, of 255": apart,
        "plain loop / star-bench": ratio,
    }


def random_sampler(device: str, *, tiny: bool, kernels: str = "default", side: int = 512, steps: int = 10) -> Sampler:
    """SD3.5-Medium's transformer and VAE with random weights, its prompts encoded at random."""
    torch.manual_seed(0)
    config: Mapping[str, Any] = TINY_TRANSFORMER if tiny else SD35_MEDIUM_TRANSFORMER
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    with torch.device(device):
        transformer = SD3Transformer2DModel.from_config({**config, "pos_embed_max_size": max(192, side // 8)})
        vae = AutoencoderKL(
            latent_channels=config["in_channels"],
            block_out_channels=(8, 8, 8, 8) if tiny else SD35_MEDIUM_VAE_WIDTHS,
            norm_num_groups=4 if tiny else 32,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            use_quant_conv=False,
            use_post_quant_conv=False,
            shift_factor=0.0609,
            scaling_factor=1.5305,
        )
    nn.Module.to(transformer, dtype)
    absent = ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2", "text_encoder_3", "tokenizer_3")
    scheduler = FlowMatchEulerDiscreteScheduler(shift=SHIFT)
    pipe = StableDiffusion3Pipeline(transformer=transformer, scheduler=scheduler, vae=vae, **dict.fromkeys(absent))
    pipe.set_progress_bar_config(disable=True)
    name = "cpu" if device == "cpu" else "cuda"
    dtype_name = str(dtype).removeprefix("torch.")
    sampler = Sampler(pipe, Protocol(steps, 4.5, "", side, side, T5_TOKENS, 0, dtype_name, name, kernels=kernels))
    for text in ("", "a prompt"):
        tokens = torch.randn(1, CLIP_TOKENS + T5_TOKENS, config["joint_attention_dim"], dtype=dtype, device=device)
        pooled = torch.randn(1, config["pooled_projection_dim"], dtype=dtype, device=device)
        sampler._embeddings[text] = Embedding(tokens, pooled)
    return sampler


@torch.no_grad()
def ceiling(device: str, size: int) -> float:
    """FLOP/s of a matrix product in the precision that the network runs in."""
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    took = [seconds(lambda: a @ b, device) for _ in range(8)]
    return 2.0 * size**3 / min(took[2:])


def network(device: str, rounds: int, *, tiny: bool) -> dict[str, Any]:
    """Pictures per second, denoised and decoded, eager and compiled, and the share of the ceiling that their FLOPs are."""
    batch, steps = (2, 2) if tiny else (NETWORK_BATCH, 10)
    items = [("00000", "a prompt", k) for k in range(batch)]
    kinds = ("default",) if tiny else ("default", "compiled")
    side = 128 if tiny else 512
    samplers = {kind: random_sampler(device, tiny=tiny, kernels=kind, side=side, steps=steps) for kind in kinds}

    def draw(kind: str, _round: int) -> float:
        return seconds(lambda: samplers[kind].pixels(items), device)

    took = in_rounds({kind: partial(draw, kind) for kind in kinds}, rounds)
    top = ceiling(device, 512 if tiny else MATMUL)
    out: dict[str, Any] = {
        "size": "tiny" if tiny else "SD3.5-Medium, 512 px, random weights",
        "batch": batch,
        "steps": steps,
    }
    out["ceiling, TFLOP/s"] = top / 1e12
    if not tiny:
        architecture = architecture_of(checkpoints.resolve("sd3.5-medium"))
        tokens = architecture.image_tokens(512, 512)
        forward = flops_of(architecture, image_tokens=tokens, text_tokens=CLIP_TOKENS + T5_TOKENS, rank=0).forward
        each = batch * steps * 2 * forward
        out["utilisation"] = {kind: interval([each / s / top for s in values]) for kind, values in took.items()}
        first, other = (np.stack(cast("list[np.ndarray]", samplers[kind].pixels(items))) for kind in kinds)
        out["compiled: largest difference of a pixel, of 1"] = float(np.abs(first - other).max())
    out["pictures per second"] = {kind: interval([batch / s for s in values]) for kind, values in took.items()}
    return out


def measure(device: str, rounds: int, *, quick: bool) -> dict[str, Any]:
    on_gpu = device != "cpu"
    return {
        **setting(device, LIBRARIES, GOALS),
        "quick": quick,
        "miniature": miniature(device, rounds, 2 if quick else 14),
        "network": network(device, rounds, tiny=not on_gpu) if quick or on_gpu else None,
    }


def to_markdown(result: Mapping[str, Any]) -> str:
    case, big = result["miniature"], result["network"]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())

    def figure(values: Mapping[str, float]) -> str:
        return f"{values['median']:.2f} ({values['low']:.2f} to {values['high']:.2f})"

    rows = [
        [key, str(case["rounds"]), figure(ratio), str(case["largest difference of a pixel, of 255"][key])]
        for key, ratio in case["plain loop / star-bench"].items()
    ]
    text = (
        f"# Generation: speed on {result['device']}\n\n"
        f"{versions}. Written by `python -m benchmarks.speed.generation`. Ratios of {result['clock']}: median over the "
        "rounds (95 % bootstrap interval).\n\n"
        f"The miniature, {case['pictures']} pictures of {PROMPTS} prompts, {case['steps']} steps: how many times as long a "
        "loop over stock diffusers takes, from the same noise, PNG files written; star-bench's are synced to disk, with a "
        f"row each, in batches of {case['batch']}. Goal on a GPU: at least {GOALS['plain loop / star-bench']:g}.\n\n"
        + table(["plain loop", "rounds", "loop / star-bench", "pixels differ by, of 255"], rows)
        + "\n## SD3.5-Medium's size\n\n"
    )
    if not big:
        return text + "Not measured: it needs a GPU.\n"
    kinds = [
        [kind, figure(each), figure(big["utilisation"][kind]) if "utilisation" in big else "–"]
        for kind, each in big["pictures per second"].items()
    ]
    return (
        text
        + f"{big['size']}, batches of {big['batch']}, {big['steps']} steps with guidance, decoding included. Ceiling: "
        f"{big['ceiling, TFLOP/s']:.1f} TFLOP/s of a matrix product. Goal: {GOALS['utilisation']:.0%} of it.\n\n"
        + table(["kernels", "pictures per second", "share of the ceiling"], kinds)
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.generation", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="one tiny round, to see that it works; writes nothing")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    quiet_libraries()
    device = choose_device(options.device)
    result = measure(device, 1 if options.quick else options.rounds, quick=options.quick)
    text = to_markdown(result)
    sys.stdout.write(text)
    if not options.quick:
        write_atomically(options.out / f"generation-{device}.json", to_json(result))
        write_atomically(options.out / f"generation-{device}.md", text.encode())


if __name__ == "__main__":
    main()

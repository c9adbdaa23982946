"""`star-bench miniature build`: every part of the miniature, trained from a seed, saved, measured, described."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from diffusers import AutoencoderKL, StableDiffusion3Pipeline
from rich.console import Console

from star_bench.catalogue.cards import did_you_mean
from star_bench.catalogue.checkpoints import FOLDER_CARD
from star_bench.errors import UsageError
from star_bench.evaluators.geneval.color import OpenClipColorJudge
from star_bench.evaluators.geneval.detection.detector import TransformersDetector
from star_bench.files.atomic import to_json, write_atomically
from star_bench.generation.quiet import quiet_libraries
from star_bench.miniature import accuracy, clip, detector, generator, signs, vae
from star_bench.miniature.card import markdown, sizes
from star_bench.miniature.scenes import WORLDS, World
from star_bench.runs.run import choose_device
from star_bench.version import __version__

PARTS = ("vae", "generator", "detector", "clip")
SIGNS = "signs"
"""Made from a finished generator, and only where it is asked for."""
SEED_OFFSETS = {"vae": 0, "generator": 0, "detector": 7, "clip": 0}
"""Added to the build's seed (chosen here). The shipped weights are those of seed 0."""
RECIPES = {"vae": vae.RECIPE, "generator": generator.RECIPE, "detector": detector.RECIPE, "clip": clip.RECIPE}


def save_pipeline(pipeline: StableDiffusion3Pipeline, folder: Path) -> None:
    """fp16 safetensors in diffusers' layout.

    transformers 5 calls its fast tokenizer TokenizersBackend; the files get the name that 4 knows too.
    """
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.to("cpu", torch.float16)
    pipeline.save_pretrained(folder, safe_serialization=True)
    for path in [folder / "model_index.json", *folder.glob("tokenizer*/tokenizer_config.json")]:
        path.write_text(path.read_text().replace("TokenizersBackend", "PreTrainedTokenizerFast"))


def through_vae(model: AutoencoderKL) -> accuracy.Degrade:
    """Pictures as the generator's VAE gives them back: what the judges see of a perfect generator."""

    @torch.inference_mode()
    def degrade(images: list[np.ndarray]) -> list[np.ndarray]:
        pixels = vae.to_pixels(images).to(model.device)
        decoded = torch.cat([model.decode(model.encode(p).latent_dist.mode()).sample for p in pixels.split(32)])
        return list(((decoded.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy())

    return degrade


def measure(world: World, weights: Path, *, device: str = "cpu") -> dict[str, Any]:
    """Accuracies of the saved parts on held-out scenes: the VAE in dB, the judges as shares of right answers."""
    coder = AutoencoderKL.from_pretrained(weights / "pipeline" / "vae", torch_dtype=torch.float32).to(device).eval()
    found = TransformersDetector(weights / "detector", device=device)
    judge = OpenClipColorJudge(weights / "clip", world.colors, device=device)
    held_out = vae.scene_batch(world, np.random.default_rng([accuracy.HELD_OUT, 7]), 256).to(device)
    coded = through_vae(coder)
    return {
        "vae_psnr_db": round(vae.psnr(coder, held_out), 2),
        "verdict_agreement": accuracy.detector_agreement(world, found, judge),
        "verdict_agreement_through_vae": accuracy.detector_agreement(world, found, judge, degrade=coded),
        "color_accuracy": accuracy.color_accuracy(world, judge),
        "caption_accuracy": accuracy.caption_accuracy(world, judge),
        "caption_accuracy_through_vae": accuracy.caption_accuracy(world, judge, degrade=coded),
    }


def _describe(world: World, seed: int, work: Path, weights: Path, measured: dict[str, Any]) -> dict[str, Any]:
    curves = {part: json.loads((work / f"{part}.curve.json").read_text()) for part in PARTS}
    return {
        "name": f"star-bench miniature, {world.name} world",
        "licence": "Apache-2.0",
        "star_bench": __version__,
        "seeds": {part: seed + offset for part, offset in SEED_OFFSETS.items()},
        "world": asdict(world),
        "recipes": {part: asdict(recipe) for part, recipe in RECIPES.items()},
        "captions": {"mix": generator.MIX, "empty": generator.EMPTY_CAPTIONS, "colors_named": generator.NAMED_COLORS},
        "sizes": sizes(weights),
        "measured_on_held_out_scenes": measured,
        "curves": curves,
    }


def _write_folder_card(folder: Path) -> None:
    card = {"licence": "Apache-2.0", "commercial": "yes", "generation": generator.SAMPLING}
    write_atomically(folder / FOLDER_CARD, yaml.safe_dump(card, sort_keys=False).encode())


def build(out: Path, *, world: str, parts: Sequence[str] | None, seed: int, work: Path, device: str) -> None:
    """Trains the named parts (all by default), each where it was left off, and writes `out`.

    out/pipeline, out/detector, out/clip: weights. out/card.json and out/README.md: data, seeds, recipes, curves,
    accuracies; written when every part is there. About an hour and a half on two shared CPU cores; a GPU has not been
    tried. Raises UsageError for an unknown world or part.
    """
    if world not in WORLDS:
        raise UsageError(f"there is no world named {world!r}", did_you_mean(world, WORLDS))
    wanted = tuple(parts or PARTS)
    for part in wanted:
        if part not in (*PARTS, SIGNS):
            raise UsageError(f"the miniature has no part named {part!r}", did_you_mean(part, (*PARTS, SIGNS)))
    place, kept, chosen = WORLDS[world], work / world, torch.device(choose_device(device))
    seeds = {part: seed + offset for part, offset in SEED_OFFSETS.items()}
    kept.mkdir(parents=True, exist_ok=True)
    quiet_libraries()
    console = Console(stderr=True)
    if "vae" in wanted or "generator" in wanted:
        coder = vae.train(place, kept, seed=seeds["vae"], device=chosen)
        coder.save_pretrained(kept / "vae")
    if "generator" in wanted:
        model = generator.train(place, coder, kept, seed=seeds["generator"], device=chosen)
        save_pipeline(model.pipeline(coder), out / "pipeline")
        _write_folder_card(out / "pipeline")
    if SIGNS in wanted:
        if not (out / "pipeline" / "model_index.json").exists():
            raise UsageError(f"{out} holds no generator to teach signs", "build the part generator first")
        speller, coder = signs.train(place, out / "pipeline", kept, seed=seed, device=chosen)
        save_pipeline(speller.pipeline(coder), out / SIGNS)
        _write_folder_card(out / SIGNS)
    if "detector" in wanted:
        detector.save(detector.train(place, kept, seed=seeds["detector"], device=chosen), out / "detector")
    if "clip" in wanted:
        clip.save(clip.train(place, kept, seed=seeds["clip"], device=chosen), out / "clip")
    folders = [out / name for name in ("pipeline", "detector", "clip")]
    if all(path.exists() for path in (*folders, *(kept / f"{part}.curve.json" for part in PARTS))):
        console.print("measuring all parts on held-out scenes")
        measured = measure(place, out, device=str(chosen))
        content = to_json(_describe(place, seed, kept, out, measured))
        write_atomically(out / "card.json", content)
        write_atomically(out / "README.md", markdown(json.loads(content)).encode())
        console.print(f"written to {out}")

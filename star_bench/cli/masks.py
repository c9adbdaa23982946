"""`star-bench masks`: where STAR's advantage would go, drawn; and how well the miniature's attention finds true objects."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any

import typer

from star_bench.cli.output import Device, Json, Reports, print_result
from star_bench.cli.prompts import PromptsDir
from star_bench.errors import UsageError

if TYPE_CHECKING:
    from star_bench.miniature.localisation import Localisation

Seed = Annotated[int, typer.Option(min=0, help="Seeds the noise.")]


def masks(
    model: Annotated[
        str | None, typer.Option(help="A checkpoint as in run, with or without a LoRA; by default the recipe's.")
    ] = None,
    prompt: Annotated[
        list[str] | None, typer.Option(help="Any text; repeatable. By default the recipe's masks.prompts.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Allocation and rollouts as in this recipe; a name or the path of a YAML file.")
    ] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of the recipe.")
    ] = None,
    suite: Annotated[
        list[str] | None,
        typer.Option(help="A suite whose prompts and judge are asked; repeatable. By default the recipe's rewards."),
    ] = None,
    base: Annotated[str | None, typer.Option(help="The pipeline under a LoRA that doesn't say it.")] = None,
    blocks: Annotated[
        str | None, typer.Option(metavar="N,N", help="Joint blocks, from 0. By default the model's own.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=2, help="Denoising steps. By default the recipe's; without one, 10.")
    ] = None,
    rollouts: Annotated[
        int | None,
        typer.Option(min=1, help="Pictures per prompt. By default the recipe's masks.rollouts; without one, 3."),
    ] = None,
    seed: Seed = 0,
    prompts_dir: PromptsDir = None,
    device: Device = "auto",
    reports: Reports = Path("reports"),
    as_json: Json = False,
) -> None:
    """Draw STAR's allocation maps of a checkpoint: word by word, for each rollout and denoising step."""
    from star_bench.assets import model_files, prompt_files
    from star_bench.catalogue import checkpoints, suites
    from star_bench.catalogue.cards import parse
    from star_bench.catalogue.protocol import GenerationSettings
    from star_bench.files.digests import digest_of
    from star_bench.generation.quiet import quiet_libraries
    from star_bench.training import blocks as blocks_of
    from star_bench.training import recipe as recipes

    prompt_files.use_folder(prompts_dir)
    if recipe is None and change:
        raise UsageError("--set changes a recipe and none is given", "give --recipe")
    told = [f"rollout.steps={steps}"] if steps else []
    told += [f"allocation.blocks=[{blocks}]"] if blocks else []
    chosen = recipes.load(recipe, [*(change or ()), *told]) if recipe else None
    name = model or (chosen.model if chosen else None)
    texts = list(dict.fromkeys(prompt or (chosen.masks.prompts if chosen else ())))
    if name is None or not texts:
        raise UsageError(f"nothing says which {'prompt' if name else 'model'} to draw", "give --model and --prompt")
    if chosen:
        allocation, rollout = chosen.allocation, chosen.rollout
    else:
        guidance = checkpoints.resolve(name, base=base).generation.guidance_scale
        given = {"steps": steps, "guidance_scale": guidance}
        said = {key: value for key, value in given.items() if value is not None}
        # No map depends on these three, which a training can't do without.
        rollout = parse(recipes.RolloutSettings, {"prompts": 1, "group_size": 2, "batch_size": 1, **said}, "--steps")
        read = {"blocks": blocks.split(",")} if blocks else {}
        asked_of = blocks_of.with_attention({"kind": "star", **read}, name, base)
        allocation = parse(recipes.AllocationSettings, asked_of, "--blocks")
    count = rollouts or (chosen.masks if chosen else recipes.MaskSettings()).rollouts
    cards = [suites.load(each) for each in suite or [reward.suite for reward in (chosen.rewards if chosen else ())]]
    local = model_files.locate(checkpoints.resolve(name, base=base))  # what is missing is told before torch is loaded
    blocks_of.check_blocks_in(local.folder, allocation.blocks, name)

    # From here on torch is needed.
    from star_bench.reporting.masks.write import write_masks
    from star_bench.runs.run import choose_device
    from star_bench.runs.workers import make_evaluator
    from star_bench.training import masks as drawing
    from star_bench.training.rollout import schedule_of
    from star_bench.training.sde import sigmas

    drawing.check_kind(allocation)
    quiet_libraries()
    asked = GenerationSettings(steps=rollout.steps, guidance_scale=rollout.guidance_scale)
    loaded = drawing.load_policy(name, asked, base=base, seed=seed, device=device)
    evaluators = [make_evaluator(card, choose_device(device)) for card in cards]
    shown = drawing.find_prompts(texts, evaluators, lambda message: typer.echo(f"star-bench: {message}", err=True))
    sheets = drawing.mask_sheets(
        loaded.policy,
        loaded.sampler,
        shown,
        allocation=allocation,
        schedule=schedule_of(rollout, sigmas(loaded.sampler.pipe.scheduler, rollout.steps)),
        rollouts=count,
        seed=seed,
        about={"model": loaded.checkpoint.name},
    )
    identity = [loaded.local.digest, loaded.sampler.protocol.as_dict(), *([s.prompt, s.settings] for s in sheets)]
    folder = f"masks-{loaded.checkpoint.name}-{digest_of(identity)[:8]}"
    page = write_masks(sheets, reports / re.sub(r"[^\w.-]+", "-", folder))
    written = json.loads((page.parent / "masks.json").read_text(encoding="utf-8"))
    known = [(each["prompt"], one) for each in written["prompts"] for one in each["maps"] if one["overlap"]]
    if as_json:
        print_result({**written, "report": str(page)}, as_json=True)
    elif known:
        print_result([_overlap_row(*each) for each in known], as_json=False)
    typer.echo(f"report: {page}", err=True)


def run_masks(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run, as 'ls runs' names it.")],
    recipe: Annotated[
        str | None, typer.Option(help="Allocation as in this recipe; a name or the path of a YAML file.")
    ] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of the recipe.")
    ] = None,
    blocks: Annotated[
        str | None, typer.Option(metavar="N,N", help="Joint blocks, from 0. By default the model's own.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Where the run's checkpoint lies now; by default where the run had it.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the pictures of so many prompts.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per forward; no map depends on it.")] = 8,
    device: Device = "auto",
    reports: Reports = Path("reports"),
    as_json: Json = False,
) -> None:
    """Draw the allocation maps of a run's own pictures, step by step, into its report."""
    from star_bench.catalogue.cards import parse
    from star_bench.generation.quiet import quiet_libraries
    from star_bench.reporting.progress import RichProgress
    from star_bench.reporting.write import report_name, write_report
    from star_bench.runs.finished import read_finished
    from star_bench.runs.manifest import read_manifest
    from star_bench.runs.references import find
    from star_bench.training import blocks as blocks_of
    from star_bench.training import recipe as recipes

    if recipe is None and change:
        raise UsageError("--set changes a recipe and none is given", "give --recipe")
    told = [f"allocation.blocks=[{blocks}]"] if blocks else []
    folder = find(run)
    finished, manifest = read_finished(folder), read_manifest(folder)
    if recipe:
        allocation = recipes.load(recipe, [*(change or ()), *told]).allocation
    else:
        read = {"blocks": blocks.split(",")} if blocks else {}
        of_run = model or str(manifest.source.get("checkpoint"))
        asked = blocks_of.with_attention({"kind": "star", **read}, of_run, manifest.source.get("base"))
        allocation = parse(recipes.AllocationSettings, asked, "--blocks")
    wanted = set(list(finished.prompts)[:limit])

    # From here on torch is needed.
    from star_bench.training.run_maps import draw_run, load_run

    quiet_libraries()
    loaded = load_run(manifest, model=model, device=device)
    images = [image for image in finished.images if image.prompt.id in wanted]
    with RichProgress() as bar:
        count = draw_run(finished, loaded, allocation, images=images, batch_size=batch_size, bar=bar)
    page = write_report(folder, reports / report_name(finished.results))
    result = {"run": str(folder), "images": len(images), "with_maps": count, "report": str(page)}
    if as_json:
        print_result(result, as_json=True)
    typer.echo(f"{count} of {len(images)} pictures have maps\nreport: {page}", err=True)


def _overlap_row(prompt: str, found: dict[str, Any]) -> dict[str, Any]:
    """How a map of masks.json meets the truth, as means over the steps."""
    overlap = found["overlap"]
    start = overlap["clear_from"]
    return {
        "prompt": prompt,
        "map": found["name"],
        "IoU": f"{fmean(overlap['iou']):.3f} (chance {overlap['iou_chance']:.3f})",
        "pointing game": f"{fmean(overlap['pointing']):.3f} (chance {overlap['pointing_chance']:.3f})",
        "clear from step": None if start is None else start + 1,
    }


def localise(
    model: Annotated[str, typer.Option(help="The miniature, or a LoRA on it.")] = "miniature",
    count: Annotated[int, typer.Option(min=1, help="Scenes of each of four kinds.")] = 16,
    steps: Annotated[int, typer.Option(min=2, help="Denoising steps, at whose noise levels is looked.")] = 10,
    blocks: Annotated[
        list[str] | None,
        typer.Option(metavar="N,N", help="Joint blocks, as a mean; repeatable. By default each alone, and all."),
    ] = None,
    smoothing: Annotated[float, typer.Option(min=0, help="As allocation.smoothing of a recipe.")] = 1.0,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """How well attention finds drawn objects whose masks are known: by block, part of the text, and noise level."""
    from star_bench.catalogue.cards import parse
    from star_bench.catalogue.protocol import GenerationSettings
    from star_bench.generation.quiet import quiet_libraries
    from star_bench.miniature.localisation import held_out_scenes
    from star_bench.miniature.localisation import localise as measure
    from star_bench.miniature.scenes import SMALL
    from star_bench.training.allocation import AllocationSettings
    from star_bench.training.masks import load_policy
    from star_bench.training.recipe import AllocationSettings as Asked
    from star_bench.training.sde import sigmas

    groups = [parse(Asked, {"kind": "star", "blocks": each.split(",")}, "--blocks").blocks for each in blocks or ()]
    quiet_libraries()
    loaded = load_policy(model, GenerationSettings(steps=steps, guidance_scale=1.0), device=device)
    levels = sigmas(loaded.sampler.pipe.scheduler, steps)[:-1]
    found = measure(
        loaded.policy,
        loaded.sampler,
        held_out_scenes(SMALL, count, seed=seed),
        levels,
        settings=AllocationSettings(smoothing=smoothing),
        seed=seed,
        groups=groups,
    )
    if as_json:
        result = {"model": model, "sigmas": levels.tolist(), "smoothing": smoothing, "scenes": 4 * count}
        print_result({**result, "maps": [asdict(each) for each in found]}, as_json=True)
        return
    print_result([_level_row(each, levels.tolist()) for each in found], as_json=False)
    best = max((each for each in found if each.subject == "prompt"), key=lambda each: fmean(each.overlap.iou))
    where = f"{{blocks: [{', '.join(map(str, best.blocks))}], tokens: {best.part}, smoothing: {smoothing:g}}}"
    typer.echo(f"the best of these, as a model's card says it: attention: {where}", err=True)
    typer.echo("in each cell IoU / pointing game, in percent; one column for each noise level (sigma)", err=True)


def _level_row(found: Localisation, sigmas: list[float]) -> dict[str, Any]:
    overlap = found.overlap
    levels = zip(sigmas, overlap.iou, overlap.pointing, strict=True)
    return {
        "blocks": ",".join(map(str, found.blocks)),
        "text": found.part,
        "map": found.subject,
        **{f"{sigma:.2f}": f"{100 * iou:.0f}/{100 * pointing:.0f}" for sigma, iou, pointing in levels},
        "mean": f"{100 * fmean(overlap.iou):.0f}/{100 * fmean(overlap.pointing):.0f}",
        "chance": f"{100 * overlap.iou_chance:.0f}/{100 * overlap.pointing_chance:.0f}",
    }

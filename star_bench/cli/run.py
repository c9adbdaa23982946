"""`star-bench run`, and `star-bench merge` for a run that was made in shards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from star_bench.cli.given import refuse_given
from star_bench.cli.output import Device, Json, Reports, Runs, print_result
from star_bench.cli.prompts import PromptsDir
from star_bench.errors import Incomplete, UsageError

OF_GENERATION = (
    *("base", "steps", "guidance", "size", "seed", "dtype", "kernels"),
    *("free_text_encoders", "workers", "gpus"),
)
"""Parameters of `run` that say how pictures are made."""
OF_A_CLUSTER = ("workers", "gpus", "scoring_workers", "scoring_gpus", "address")
"""Parameters of `run` that say which processes of an engine elsewhere do the work."""


def run(
    ctx: typer.Context,
    suite: Annotated[str, typer.Option(help="A suite's name (star-bench ls suites) or the path of a card.yaml.")],
    model: Annotated[str | None, typer.Option(help="A name in checkpoints.yaml, a path, or org/name@revision.")] = None,
    base: Annotated[str | None, typer.Option(help="The pipeline under a LoRA that doesn't say it.")] = None,
    images: Annotated[Path | None, typer.Option(help="Score pictures made elsewhere instead of a model's.")] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Images per prompt.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many prompts; marked as a subset.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps.")] = None,
    guidance: Annotated[float | None, typer.Option(min=0, help="Guidance scale.")] = None,
    size: Annotated[int | None, typer.Option(min=8, help="Height and width in pixels.")] = None,
    prompts_dir: PromptsDir = None,
    seed: Annotated[int, typer.Option(min=0, help="Seeds every image's noise.")] = 0,
    batch_size: Annotated[
        str, typer.Option(metavar="N|auto", help="Images per forward, auto the fastest; no image depends on it.")
    ] = "8",
    device: Device = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, float16 or bfloat16.")] = "auto",
    kernels: Annotated[
        str, typer.Option(help="default, compiled, or attention's: math, flash, efficient, cudnn.")
    ] = "default",
    free_text_encoders: Annotated[
        bool,
        typer.Option("--free-text-encoders", help="SD3: encode all prompts first, then free the encoders' memory."),
    ] = False,
    runs: Runs = Path("runs"),
    reports: Reports = Path("reports"),
    engine: Annotated[str, typer.Option(help="Where work runs: local or ray.")] = "local",
    workers: Annotated[int | None, typer.Option(min=1, help="ray: of generation; by default one per GPU.")] = None,
    gpus: Annotated[float | None, typer.Option(min=0, help="ray: GPUs of each; 0.5 lets two share one.")] = None,
    scoring_workers: Annotated[int | None, typer.Option(min=1, help="ray: of scoring; by default one per GPU.")] = None,
    scoring_gpus: Annotated[float | None, typer.Option(min=0, help="ray: GPUs of each.")] = None,
    address: Annotated[str | None, typer.Option(help="ray: a cluster's, ray://HOST:PORT; else this machine.")] = None,
    mirror: Annotated[
        str | None, typer.Option(help="Keep a copy at this address (s3://, gs://, file://, ...), and go on from it.")
    ] = None,
    shard: Annotated[str | None, typer.Option(help="Only part i of n, as in 2/7; 'star-bench merge' ends it.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done and what it would cost.")] = False,
    as_json: Json = False,
) -> None:
    """Generate, score and report. The same command goes on with an interrupted run."""
    if images is not None and model is None:
        refuse_given(ctx, OF_GENERATION, "with --images, whose pictures are there already")
    if engine == "local":
        refuse_given(ctx, OF_A_CLUSTER, "without --engine ray")
    if shard:
        refuse_given(ctx, ("reports",), "with --shard", "give it to 'star-bench merge', which writes the report")
    from star_bench.assets import prompt_files
    from star_bench.runs import run as runner
    from star_bench.runs.engines.base import Workers
    from star_bench.runs.shards import Shard

    prompt_files.use_folder(prompts_dir)
    options = runner.Options(
        suite=suite,
        model=model,
        base=base,
        images=images,
        samples=samples,
        limit=limit,
        steps=steps,
        guidance_scale=guidance,
        size=size,
        seed=seed,
        batch_size=_batch_size(batch_size),
        device=device,
        dtype=dtype,
        kernels=kernels,
        free_text_encoders=free_text_encoders,
        runs=runs,
        engine=engine,
        workers=Workers(workers, gpus),
        scoring_workers=Workers(scoring_workers, scoring_gpus),
        address=address,
        shard=Shard.parse(shard) if shard else None,
    )
    prepared = runner.prepare(options)
    if dry_run:
        from star_bench.runs.cost import estimate_cost

        print_result(estimate_cost(prepared), as_json)
        return
    from star_bench.cli.progress import RichProgress
    from star_bench.generation.quiet import quiet_libraries
    from star_bench.runs.mirror import mirrored

    name = f"runs/{prepared.folder.relative_to(runs).as_posix()}"
    with RichProgress() as bar, mirrored(mirror, name, prepared.folder, bar) as shown:
        results = runner.run(prepared, options, shown, begin=quiet_libraries)
    if options.shard:
        print_result(results if as_json else {"shard": str(options.shard), **results["counts"]}, as_json)
        typer.echo(
            f"shard: {prepared.folder}\nwhen all are done: star-bench merge {prepared.folder.parents[1]}", err=True
        )
        copies: dict[str, Path] = {}
    else:
        report = _report(prepared.folder, reports, results, as_json)
        copies = {f"reports/{report.name}": report}
    if mirror:
        _copy(mirror, {name: prepared.folder, **copies} if shown.is_behind else copies)
    _check_whole(results)


def _batch_size(said: str) -> int | None:
    """None for auto. Raises UsageError."""
    if said == "auto":
        return None
    if not (said.isascii() and said.isdigit() and int(said) > 0):
        raise UsageError(f"--batch-size can't be {said!r}", "give a number from 1 on, or auto")
    return int(said)


def merge(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's directory, in which its shards are.")],
    reports: Reports = Path("reports"),
    mirror: Annotated[str | None, typer.Option(help="Also write the run and its report to this address.")] = None,
    as_json: Json = False,
) -> None:
    """Make one run of its shards, as if it had been run in one piece. No weights are needed."""
    from star_bench.cli.progress import RichProgress
    from star_bench.runs import shards

    with RichProgress() as bar:
        results = shards.merge(run, bar)
    report = _report(run, reports, results, as_json)
    if mirror:
        _copy(mirror, {"/".join(["runs", *run.resolve().parts[-3:]]): run, f"reports/{report.name}": report})
    _check_whole(results)


def pull(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="What --mirror was given.")],
    runs: Runs = Path("runs"),
    pictures: Annotated[bool, typer.Option("--pictures/--no-pictures", help="Results can be ranked without.")] = True,
) -> None:
    """Fetch the runs that others keep at an address."""
    from star_bench.cli.progress import RichProgress
    from star_bench.runs.mirror import Mirror
    from star_bench.runs.store import locked

    mirror = Mirror(address)
    names = mirror.runs()
    if not names:
        raise UsageError(f"there are no runs at {address}", "give the address that --mirror was given")
    with RichProgress() as bar:
        for name in names:
            folder = runs / name.removeprefix("runs/")
            with locked(folder):
                mirror.pull(name, folder, bar, pictures=pictures)
    print_result([{"run": str(runs / name.removeprefix("runs/"))} for name in names], as_json=False)


def _report(run: Path, reports: Path, results: Mapping[str, Any], as_json: bool) -> Path:
    """Written and told; returns its folder."""
    from star_bench.reporting.tables import print_table
    from star_bench.reporting.write import folder_name, write_report
    from star_bench.runs.finished import read_results

    folder = reports / folder_name(read_results(run))
    page = write_report(run, folder)
    if as_json:
        print_result({**results, "run": str(run), "report": str(page)}, as_json=True)
    else:
        from rich.console import Console

        print_table(results, Console())
    typer.echo(f"run: {run}\nreport: {page}", err=True)
    return folder


def _copy(address: str, folders: Mapping[str, Path]) -> None:
    """Writes folders to an address, each below its name there. Raises what `Mirror.push` raises."""
    from star_bench.cli.progress import RichProgress
    from star_bench.runs.mirror import Mirror

    mirror = Mirror(address)
    with RichProgress() as bar:
        for name, folder in folders.items():
            mirror.push(name, folder, bar)


def _check_whole(results: Mapping[str, Any]) -> None:
    """Raises Incomplete."""
    if not results["complete"]:
        counts = results["counts"]
        lost = ", ".join(f"{n} {status}" for status, n in counts.items() if n and status not in ("planned", "ok"))
        raise Incomplete(
            f"only {counts['ok']} of {counts['planned']} images have a score ({lost})",
            "see the report for each reason, mend it, and give the same command again",
        )

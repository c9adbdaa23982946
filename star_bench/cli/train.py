"""`star-bench train`, `curves` and `register`: a recipe in, a LoRA that `run` can judge out, and how it came to be."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from star_bench.cli.given import refuse_given
from star_bench.cli.output import Device, Json, Models, Reports, local_path, print_result
from star_bench.cli.prompts import PromptsDir
from star_bench.errors import Incomplete, UsageError


def train(
    ctx: typer.Context,
    recipe: Annotated[str, typer.Option(help="A recipe's name (star-bench ls recipes) or the path of a YAML file.")],
    change: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, as in rollout.steps=8.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            parser=local_path, metavar="DIR", help="The run's folder; trained/<recipe>-seed<seed> by default."
        ),
    ] = None,
    prompts_dir: PromptsDir = None,
    models: Models = None,
    device: Device = "auto",
    track: Annotated[
        list[str] | None, typer.Option(help="Also log to one of accelerate's trackers, such as wandb or trackio.")
    ] = None,
    reports: Reports = Path("reports"),
    engine: Annotated[str, typer.Option(help="Where rollouts are judged: local or ray.")] = "local",
    scoring_workers: Annotated[int | None, typer.Option(min=1, help="ray: of scoring; by default one per GPU.")] = None,
    scoring_gpus: Annotated[float | None, typer.Option(min=0, help="ray: GPUs of each.")] = None,
    address: Annotated[str | None, typer.Option(help="ray: a cluster's, ray://HOST:PORT; else this machine.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan, and estimates of memory and cost.")
    ] = False,
    processes: Annotated[
        int | None, typer.Option(min=1, help="--dry-run: GPUs, each a process; a training has its launcher's.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a LoRA, or all weights, by STAR or Flow-GRPO. The same command goes on with an interrupted training."""
    if engine == "local":
        refuse_given(ctx, ("scoring_workers", "scoring_gpus", "address"), "without --engine ray")
    from star_bench.assets import model_files, prompt_files
    from star_bench.catalogue import checkpoints, plugins
    from star_bench.runs.engines.base import Settings, Workers
    from star_bench.training import recipe as recipes

    prompt_files.use_folder(prompts_dir)
    chosen = recipes.load(recipe, change or ())
    folder = out or Path("trained") / f"{chosen.name}-seed{chosen.seed}"
    if dry_run:
        from star_bench.training.dry_run import dry_run as estimate

        print_result(estimate(chosen, processes=processes or 1), as_json)
        return
    if processes is not None:
        raise UsageError("--processes is for --dry-run alone", "start as many with 'accelerate launch'")
    make_engine = plugins.load(plugins.ENGINES, engine)
    model_files.locate(checkpoints.resolve(chosen.model))  # what is missing is told before torch is loaded

    from star_bench.generation.quiet import quiet_libraries
    from star_bench.reporting.curves import write_curves
    from star_bench.reporting.progress import RichProgress
    from star_bench.runs.run import choose_device
    from star_bench.training.trainer import Trainer

    quiet_libraries()
    scoring = Workers(scoring_workers, scoring_gpus)
    judging = make_engine(Settings(choose_device(device).split(":")[0], scoring=scoring, address=address))
    with RichProgress() as bar, judging:
        trackers = ["tensorboard"] if find_spec("tensorboard") else []
        trainer = Trainer(
            chosen,
            folder,
            device=device,
            bar=bar,
            trackers=[*trackers, *(track or ())],
            engine=judging,
            begin=quiet_libraries,
        )
        card = trainer.train()
    if not trainer.accelerator.is_main_process:
        return
    page = write_curves([folder], reports / f"training-{folder.name}")
    if as_json:
        print_result({**card, "out": str(folder), "report": str(page)}, as_json=True)
    for notice in card["notices"]:
        typer.echo(notice["text"], err=True)
    if card["epochs_without_update"] == chosen.epochs:
        raise Incomplete(
            f"no update was made in any of {chosen.epochs} epochs, so what is in {folder} is the base model",
            "reward something in which a prompt's pictures differ, or draw larger groups",
        )
    typer.echo(f"trained: {folder}\nreport: {page}\nnext: star-bench run --model {folder} --suite ...", err=True)


def curves(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="The --out folders of finished trainings.")],
    out: Annotated[Path, typer.Option(parser=local_path, metavar="DIR", help="Where the page is written.")] = Path(
        "reports/training"
    ),
    as_json: Json = False,
) -> None:
    """Draw the curves of several trainings on one page, recipe by recipe, with each seed and the mean."""
    from star_bench.reporting.curves import write_curves

    page = write_curves(folders, out)
    if as_json:
        typer.echo((out / "curves.json").read_text(encoding="utf-8"))
    typer.echo(f"report: {page}", err=True)


def register(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The --out folder of a finished training.")],
    name: Annotated[str, typer.Option("--as", metavar="NAME", help="What it is called from now on.")],
) -> None:
    """Add a trained LoRA to the working folder's checkpoints.yaml, so that `run --model NAME` finds it there."""
    from star_bench.catalogue.checkpoints import OWN_FILE
    from star_bench.training.output import register as add

    add(folder, name, Path(OWN_FILE))
    typer.echo(f"{name}: added to {OWN_FILE}", err=True)

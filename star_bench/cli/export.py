"""`star-bench export` and `star-bench verify`: a run for a paper, a hub or another person; and what another person sent."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from star_bench.cli.given import refuse_given
from star_bench.cli.output import Device, Json, local_path, print_result
from star_bench.cli.prompts import PromptsDir
from star_bench.errors import Incomplete, UsageError

DIFFERS = 1
SHOWN = 20  # chosen here: --json has every changed picture


class Form(StrEnum):
    """What a run is written as."""

    LATEX = "latex"
    EVAL_RESULTS = "eval-results"
    MODEL_CARD = "model-card"
    EVERY_EVAL_EVER = "every-eval-ever"
    BUNDLE = "bundle"
    PARQUET = "parquet"


OF_FORM = {
    Form.EVAL_RESULTS: ("dataset", "task", "source_url"),
    Form.EVERY_EVAL_EVER: ("model_id", "organisation", "relationship"),
}
"""Parameters of `export` that one form alone has."""


def export(
    ctx: typer.Context,
    run: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="A run, as 'ls runs' names it; several for latex and parquet."),
    ],
    form: Annotated[Form, typer.Option("--as", help="What to write.")],
    out: Annotated[
        Path | None, typer.Option(parser=local_path, metavar="FILE", help="By default text goes to stdout.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="eval-results: the benchmark on the Hub, org/name.")] = None,
    task: Annotated[str | None, typer.Option(help="eval-results: the id of the task in its eval.yaml.")] = None,
    source_url: Annotated[str | None, typer.Option(help="eval-results: where the run can be seen.")] = None,
    model_id: Annotated[str | None, typer.Option(help="every-eval-ever: the model on the Hub, org/name.")] = None,
    organisation: Annotated[str | None, typer.Option(help="every-eval-ever: who evaluated.")] = None,
    relationship: Annotated[
        str | None,
        typer.Option(help="every-eval-ever: of them to the model's makers: first_party, third_party, ..."),
    ] = None,
) -> None:
    """Write finished runs as a LaTeX table or as Parquet, or one for a model card, for Every Eval Ever, as a bundle."""
    from star_bench.runs.finished import read_results, read_run
    from star_bench.runs.manifest import read_manifest
    from star_bench.runs.references import find

    for other, options in OF_FORM.items():
        if form is not other:
            refuse_given(ctx, options, f"with --as {form.value}")
    folders = [find(path) for path in run]
    if len(folders) > 1 and form not in (Form.LATEX, Form.PARQUET):
        raise UsageError(f"{form.value} is of one run, and {len(folders)} were given", "export them one by one")
    folder, results = folders[0], read_results(folders[0])
    if form is Form.BUNDLE:
        _write_bundle(folder, out)
        return
    if form is Form.PARQUET:
        _write_parquet(folders, out)
        return
    if form is Form.LATEX:
        from star_bench.reporting.latex import comparison_table, run_table

        text = run_table(results) if len(folders) == 1 else comparison_table([read_run(each) for each in folders])
    elif form is Form.EVAL_RESULTS:
        from star_bench.reporting.export.eval_results import eval_results_yaml

        dataset, task = _needed(form, **{"--dataset": dataset, "--task": task})
        manifest = read_manifest(folder)
        text = eval_results_yaml(results, manifest, dataset=dataset, task=task, source_url=source_url)
    elif form is Form.MODEL_CARD:
        from star_bench.reporting.export.model_card import model_card

        text = model_card(results)
    else:
        from star_bench.catalogue.cards import did_you_mean
        from star_bench.reporting.export.every_eval_ever import Evaluated, Relationship, every_eval_ever_json

        organisation, relationship = _needed(form, **{"--organisation": organisation, "--relationship": relationship})
        if relationship not in list(Relationship):
            raise UsageError(f"--relationship {relationship} is unknown", did_you_mean(relationship, Relationship))
        said = Evaluated(organisation, Relationship(relationship), model_id)
        text = every_eval_ever_json(results, read_manifest(folder), said)
    _write_text(text, out)


def _needed(form: Form, **options: str | None) -> tuple[str, ...]:
    """What no run knows and a format asks for."""
    lacking = [name for name, value in options.items() if value is None]
    if lacking:
        raise UsageError(f"{form.value} needs what no run knows", f"give {' and '.join(lacking)}")
    return tuple(value for value in options.values() if value is not None)


def _write_text(text: str, out: Path | None) -> None:
    if out is None:
        typer.echo(text, nl=False)
        return
    from star_bench.files.atomic import write_atomically

    write_atomically(out, text.encode("utf-8", "replace"))
    typer.echo(f"written: {out}", err=True)


def _write_parquet(folders: list[Path], out: Path | None) -> None:
    from star_bench.reporting.export.parquet import write_parquet
    from star_bench.runs.finished import read_run

    if out is None:
        raise UsageError("Parquet is no text for a terminal", "give --out FILE.parquet")
    rows = write_parquet([read_run(folder) for folder in folders], out)
    typer.echo(f"written: {out} ({rows:,} rows)", err=True)


def _write_bundle(folder: Path, out: Path | None) -> None:
    from star_bench.runs.bundle import pack
    from star_bench.runs.finished import read_run

    if out is None:
        raise UsageError("a bundle is a zip file and no text for a terminal", "give --out FILE.zip")
    results = read_run(folder).results
    absent = pack(folder, out)
    typer.echo(f"written: {out} ({out.stat().st_size:,} bytes)", err=True)
    if absent or not results.is_complete:
        counts = results.counts
        lost = f"{counts.ok} of {counts.planned} images have a score, {len(absent)} stored pictures are gone"
        raise Incomplete(
            f"the bundle is of an incomplete run ({lost})", "give the same 'star-bench run' again, then export it anew"
        )


def verify(
    ctx: typer.Context,
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle, or a run's directory.")],
    scoring: Annotated[bool, typer.Option("--scoring/--no-scoring", help="Judge every picture again.")] = True,
    suite: Annotated[str | None, typer.Option(help="The card.yaml of a suite that star-bench doesn't bring.")] = None,
    prompts_dir: PromptsDir = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per forward; no score depends on it.")] = 8,
    device: Device = "auto",
    work: Annotated[Path | None, typer.Option(help="Where it is unpacked; by default in the cache folder.")] = None,
    as_json: Json = False,
) -> None:
    """Check a bundle: its digests, its summary by its scores, and its scores by its pictures."""
    from star_bench.assets import prompt_files
    from star_bench.assets.cache import cache_folder
    from star_bench.generation.quiet import quiet_libraries
    from star_bench.reporting.progress import RichProgress
    from star_bench.verification.verify import Verdict
    from star_bench.verification.verify import verify as check

    prompt_files.use_folder(prompts_dir)
    if not scoring:
        refuse_given(ctx, ("batch_size", "device"), "with --no-scoring")
    if bundle.is_dir():
        refuse_given(ctx, ("work",), "with a run's directory, which needs no unpacking")

    def begin() -> str:
        from star_bench.runs.run import choose_device

        quiet_libraries()
        return choose_device(device)

    with RichProgress() as bar:
        found = check(
            bundle,
            work=work or cache_folder() / "verify",
            suite=suite,
            begin=begin if scoring else None,
            batch_size=batch_size,
            bar=bar,
        )
    if as_json:
        print_result(found.as_dict(), as_json=True)
    else:
        print_result(found.table(), as_json=False)
        if found.rescored and found.rescored.changes:
            print_result([asdict(change) for change in found.rescored.changes[:SHOWN]], as_json=False)
    if found.verdict is Verdict.INCOMPLETE:
        raise Incomplete(found.sentence, "what is there is as recorded; ask for a bundle of the whole run")
    typer.echo(found.sentence, err=True)
    if found.verdict is Verdict.DIFFERS:
        raise typer.Exit(DIFFERS)

"""`star-bench prompts ...`: prompt sets fetched, verified, and compared with what models were trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from star_bench.cli.app import App
from star_bench.cli.output import Json, print_result

app = App(help="Prompt sets: fetch, verify, and look for leakage.", no_args_is_help=True)

Suites = Annotated[list[str] | None, typer.Argument(metavar="[SUITE]...", help="Suites; by default all there are.")]
Training = Annotated[bool, typer.Option("--training", help="Also the sets that models for these suites train on.")]
PromptsDir = Annotated[
    Path | None,
    typer.Option(exists=True, file_okay=False, help="Prompt files that you have; wins over STAR_BENCH_PROMPTS_DIR."),
]


@app.command()
def fetch(suite: Suites = None, training: Training = False, as_json: Json = False) -> None:
    """Fetch prompt files from their repositories into the cache; each must have the digest in its suite's card."""
    from star_bench import prompt_sets
    from star_bench.progress import download_bar

    files = prompt_sets.files(suite or [], training=training)
    for file in files:
        with download_bar(file.suite) as advance:
            prompt_sets.fetch(file, advance)
    print_result([prompt_sets.verify(file).row() for file in files], as_json)


@app.command()
def verify(
    suite: Suites = None, training: Training = False, prompts_dir: PromptsDir = None, as_json: Json = False
) -> None:
    """Which prompt files are on this machine, and is their content the one that was measured with?"""
    from star_bench import prompt_files, prompt_sets

    prompt_files.use_folder(prompts_dir)
    verified = [prompt_sets.verify(file) for file in prompt_sets.files(suite or [], training=training)]
    print_result([each.row() for each in verified], as_json)
    prompt_sets.require(verified)


@app.command()
def leakage(
    suite: Annotated[
        list[str] | None, typer.Argument(metavar="[SUITE]...", help="Suites; by default all whose card names a set.")
    ] = None,
    training: Annotated[Path | None, typer.Option(help="A training set of your own instead of the card's.")] = None,
    prompts_dir: PromptsDir = None,
    as_json: Json = False,
) -> None:
    """How many test prompts were also trained on, and how many stand in the test set twice. --json has examples."""
    from star_bench import prompt_files
    from star_bench.leakage import readable, report, warnings

    prompt_files.use_folder(prompts_dir)
    rows = report(suite or [], training)
    print_result(rows if as_json else [readable(row) for row in rows], as_json)
    for warning in warnings(rows):
        typer.echo(f"star-bench: {warning}", err=True)

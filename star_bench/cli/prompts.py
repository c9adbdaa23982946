"""`star-bench prompts verify`; they are fetched by `star-bench fetch`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from star_bench.cli.app import App
from star_bench.cli.output import Json, print_result

app = App(help="Prompt sets: are they here, and the ones that were measured with?", no_args_is_help=True)

Suites = Annotated[list[str] | None, typer.Argument(metavar="[SUITE]...", help="Suites; by default all there are.")]
Training = Annotated[bool, typer.Option("--training", help="Also the sets that models for these suites train on.")]
PromptsDir = Annotated[
    Path | None,
    typer.Option(exists=True, file_okay=False, help="Prompt files that you have; wins over STAR_BENCH_PROMPTS_DIR."),
]


@app.command()
def verify(
    suite: Suites = None, training: Training = False, prompts_dir: PromptsDir = None, as_json: Json = False
) -> None:
    """Which prompt files are on this machine, and is their content the one that was measured with?"""
    from star_bench.assets import prompt_files, prompt_sets

    prompt_files.use_folder(prompts_dir)
    verified = [prompt_sets.verify(file) for file in prompt_sets.files(suite or [], training=training)]
    print_result([each.row() for each in verified], as_json)
    prompt_sets.require(verified)

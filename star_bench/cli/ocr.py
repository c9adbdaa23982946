"""`star-bench ocr ...`: what a reader sees in pictures, and the rule on readings that were made elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from star_bench.cli.app import App
from star_bench.cli.output import Json, print_result
from star_bench.errors import Incomplete

app = App(help="Readers of text in pictures, and Flow-GRPO's OCR score.", no_args_is_help=True)


@app.command()
def read(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Pictures to read.")],
    recogniser: Annotated[str, typer.Option(help="rapidocr, or easyocr or paddleocr (extras).")] = "rapidocr",
    upscale: Annotated[int, typer.Option(min=1, max=8, help="Bicubic enlargement before reading.")] = 1,
    as_json: Json = False,
) -> None:
    """What a recogniser reads, for people who ask why a picture failed."""
    from star_bench.evaluators.ocr.inspect import inspect

    rows, problems = inspect(images, recogniser=recogniser, upscale=upscale)
    print_result(rows, as_json)
    if problems:
        raise Incomplete(
            f"{len(problems)} of {len(rows)} pictures could not be read ({'; '.join(problems)})",
            "mend that, or try another --recogniser",
        )


@app.command()
def rescore(
    readings: Annotated[Path, typer.Argument(metavar="READINGS.jsonl", help='Lines {"prompt": ..., "read": [...]}.')],
    as_json: Json = False,
) -> None:
    """The score of each reading and their mean, without a model."""
    from star_bench.evaluators.ocr.rescore import rescore as rescore_rows

    result = rescore_rows(readings)
    if as_json:
        print_result(result, as_json=True)
    else:
        print_result(result.pop("rows"), as_json=False)
        print_result(result, as_json=False)

"""`star-bench geneval ...`: the official prompts and result files, and the detector's weights and detections."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from star_bench.cli.app import App
from star_bench.cli.given import refuse_given
from star_bench.cli.output import Device, Json, print_result

app = App(help="GenEval's official files and its detector.", no_args_is_help=True)


@app.command()
def prompts(out: Annotated[Path, typer.Argument(help="The folder to write to.")], as_json: Json = False) -> None:
    """Write evaluation_metadata.jsonl and generation_prompts.txt, byte for byte the official ones."""
    from star_bench.evaluators.geneval.prompts import official, official_files
    from star_bench.files.atomic import write_atomically
    from star_bench.files.digests import sha256_of

    files = official_files(official())
    for name, text in files.items():
        write_atomically(out / name, text.encode())
    print_result([{"file": str(out / name), "sha256": sha256_of(out / name)} for name in files], as_json)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="mmdet 2.x or 3.x checkpoint, .pth or .safetensors.")],
    out: Annotated[Path, typer.Argument(help="The folder for the converted weights.")],
    as_json: Json = False,
) -> None:
    """Convert mmdet's Mask2Former to safetensors. Any tensor that does not fit exactly is an error."""
    from star_bench.evaluators.geneval.detection.convert import convert as convert_checkpoint
    from star_bench.generation.quiet import quiet_libraries

    quiet_libraries()
    provenance = convert_checkpoint(source, out)
    print_result(provenance, as_json)
    if not provenance["official_architecture"]:
        typer.echo("star-bench: this network has other sizes than GenEval's detector: it is another metric", err=True)


@app.command()
def fetch(
    ctx: typer.Context,
    weights: Annotated[Path | None, typer.Option(help="The detector's checkpoint, already on this machine.")] = None,
    color_weights: Annotated[Path | None, typer.Option(help="OpenAI's ViT-L/14 as open_clip safetensors.")] = None,
    only: Annotated[str, typer.Option(help="all, detector or color.")] = "all",
    as_json: Json = False,
) -> None:
    """Put GenEval's official judges in place: fetched from their pinned addresses, or from files that you have."""
    from star_bench.assets.cache import cache_folder
    from star_bench.catalogue.cards import did_you_mean
    from star_bench.errors import UsageError
    from star_bench.evaluators.geneval.published import COLOR_DOWNLOAD, DETECTOR_DOWNLOAD, DOWNLOADS
    from star_bench.generation.quiet import quiet_libraries
    from star_bench.reporting.progress import download_bar

    choices = ("all", "detector", "color")
    if only not in choices:
        raise UsageError(f"there is no judge {only!r}", did_you_mean(only, choices))
    if only == "color":
        refuse_given(ctx, ("weights",), "with --only color")
    if only == "detector":
        refuse_given(ctx, ("color_weights",), "with --only detector")
    commit, place = None, cache_folder() / DOWNLOADS
    if weights is None and only != "color":
        with download_bar("detector") as advance:
            weights = DETECTOR_DOWNLOAD.fetch(place, advance)
    if color_weights is None and only != "detector":
        with download_bar("colour judge") as advance:
            color_weights, commit = COLOR_DOWNLOAD.fetch(place, advance), COLOR_DOWNLOAD.revision

    from star_bench.evaluators.geneval.install import install_color_judge, install_detector

    quiet_libraries()
    rows: list[dict[str, Any]] = []
    if weights is not None and only != "color":
        rows.append({"judge": "detector", **install_detector(weights)})
    if color_weights is not None and only != "detector":
        rows.append({"judge": "color", **install_color_judge(color_weights, commit=commit)})
    shown = [{"judge": row["judge"], "folder": row["out"], "sha256": row["model_sha256"]} for row in rows]
    print_result(rows if as_json else shown, as_json)


@app.command()
def detect(
    ctx: typer.Context,
    weights: Annotated[Path, typer.Argument(metavar="WEIGHTS_DIR", help="A converted folder (geneval convert).")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Pictures to look at.")],
    everything: Annotated[
        bool, typer.Option("--all", help="The best 100 pairs of query and class, unfiltered.")
    ] = False,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Only scores above; GenEval: .3, counting .9.")] = 0.3,
    detector: Annotated[str, typer.Option(help="transformers, or a plugin.")] = "transformers",
    preprocessing: Annotated[str, typer.Option(help="mmdet-2.x (the official) or mmdet-3.x.")] = "mmdet-2.x",
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """What the detector sees: class, score, box and mask area, for people who ask why a picture failed."""
    from star_bench.evaluators.geneval.inspect import check_weights, inspect
    from star_bench.files.pictures import read_picture

    if everything:
        refuse_given(ctx, ("threshold",), "with --all, which shows all")
    check_weights(weights)
    pictures = {path: read_picture(path) for path in images}  # before torch: a wrong name is told at once

    from star_bench.evaluators.geneval.detection.postprocess import EVERYTHING
    from star_bench.generation.quiet import quiet_libraries
    from star_bench.runs.run import choose_device

    quiet_libraries()
    rows = inspect(
        weights,
        pictures,
        threshold=EVERYTHING if everything else threshold,
        plugin=detector,
        preprocessing=preprocessing,
        device=choose_device(device),
    )
    print_result(rows, as_json)


@app.command()
def rescore(
    results: Annotated[Path, typer.Argument(metavar="RESULTS.jsonl", help="The official evaluator's result file.")],
    out: Annotated[Path | None, typer.Option(help="Write the rows with their new verdicts here.")] = None,
    as_json: Json = False,
) -> None:
    """Recompute every verdict from the detections that a result file recorded."""
    from star_bench.evaluators.geneval.official_results import read_results, to_line
    from star_bench.evaluators.geneval.rescore import readable, warnings
    from star_bench.evaluators.geneval.rescore import rescore as rescore_rows
    from star_bench.files.atomic import write_atomically

    rescored = rescore_rows(read_results(results))
    summary = rescored.summary()
    if out is not None:
        write_atomically(out, "".join(to_line(row) + "\n" for row in rescored.rows).encode())
    print_result(summary if as_json else readable(summary), as_json)
    for warning in warnings(summary):
        typer.echo(f"star-bench: {warning}", err=True)

"""The command line: one command per verb, each handing over to one function."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from star_bench.cli import geneval, ocr, prompts
from star_bench.cli.app import HELP, App, in_words
from star_bench.cli.compare import compare
from star_bench.cli.export import export, verify
from star_bench.cli.fetch import fetch
from star_bench.cli.gate import gate
from star_bench.cli.given import refuse_given
from star_bench.cli.init import init
from star_bench.cli.leaderboard import leaderboard
from star_bench.cli.masks import localise, masks, run_masks
from star_bench.cli.output import SHOWN, Device, Json, Models, Runs, print_listing, print_result
from star_bench.cli.power import power
from star_bench.cli.replicate import replicate
from star_bench.cli.run import merge, pull, run, score
from star_bench.cli.train import curves, register, train
from star_bench.cli.watch import PanelPairs, watch
from star_bench.cli.wins import wins
from star_bench.errors import Incomplete, StarBenchError, UsageError
from star_bench.version import __version__

app = App(
    name="star-bench",
    help="Evaluate text-to-image checkpoints: exact, seeded, resumable, complete or loudly incomplete.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings=HELP,
)
miniature = App(help="The miniature: a whole text-to-image world on a laptop.", no_args_is_help=True)
app.add_typer(miniature, name="miniature")
app.add_typer(geneval.app, name="geneval")
app.add_typer(ocr.app, name="ocr")
app.add_typer(prompts.app, name="prompts")

INTERRUPTED = 128 + signal.SIGINT
CRASH = 70  # EX_SOFTWARE of sysexits.h: 1 would read as a failed gate


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(f"star-bench {__version__}")
        raise typer.Exit


@app.command("ls")
def list_things(
    ctx: typer.Context,
    what: Annotated[str, typer.Argument(help="models, suites, recipes, runs or licences.")],
    runs: Runs = Path("runs"),
    licence: Annotated[
        str | None, typer.Option(help="Only models or licences that are commercial, non-commercial or unknown.")
    ] = None,
    models: Models = None,
    model: Annotated[str | None, typer.Option(help="runs: only this model's.")] = None,
    suite: Annotated[str | None, typer.Option(help="runs: only this suite's.")] = None,
    everything: Annotated[bool, typer.Option("--all", help=f"Every row, and not only the first {SHOWN}.")] = False,
    as_json: Json = False,
) -> None:
    """List what can be named: models, suites, recipes, the runs made here, or the licence of every part."""
    from star_bench.reporting import listing

    tables: dict[str, Callable[[], Any]] = {
        "models": lambda: listing.models(licence),
        "suites": listing.suites,
        "recipes": _recipes,
        "runs": lambda: listing.runs(runs, model=model, suite=suite),
        "licences": lambda: listing.licences(licence),
    }
    if what not in tables:
        raise UsageError(f"there is nothing to list named {what!r}", "choose models, suites, recipes, runs or licences")
    if licence is not None and what not in ("models", "licences"):
        raise UsageError(f"{what} are not listed by licence", "leave --licence out, or list models or licences")
    if what != "runs":
        refuse_given(ctx, ("runs", "model", "suite"), f"with {what}")
    if as_json:
        refuse_given(ctx, ("everything",), "with --json, which has all")
    rows = tables[what]()
    if as_json:
        print_result(rows, as_json=True)
    else:
        shown = [listing.readable(row) for row in rows] if what == "runs" else rows
        print_listing(shown, listing.KEPT_WHOLE, most=None if everything else SHOWN)


def _recipes() -> list[dict[str, Any]]:
    """One row per recipe that comes with the package."""
    from star_bench.training import recipe as training_recipes

    loaded = [training_recipes.load(name) for name in training_recipes.names()]
    return [
        {"name": r.name, "model": r.model, "rewards": " ".join(each.suite for each in r.rewards), "title": r.title}
        for r in loaded
    ]


app.command("run")(run)
app.command()(score)
app.command()(fetch)
app.command()(init)
app.command()(merge)
app.command()(pull)
app.command(cls=PanelPairs)(watch)
app.command()(wins)
app.command()(compare)
app.command()(leaderboard)
app.command()(export)
app.command()(verify)
app.command()(gate)
app.command()(power)
app.command()(replicate)
app.command()(train)
app.command()(curves)
app.command()(register)
app.command()(masks)
app.command("run-masks")(run_masks)


@app.command()
def doctor(
    ctx: typer.Context,
    device: Device = "auto",
    bundle: Annotated[bool, typer.Option("--bundle", help="Also write a zip for a bug report.")] = False,
    out: Annotated[Path, typer.Option(help="The zip's path.")] = Path("star-bench-doctor.zip"),
    runs: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """Versions, devices, weights that are here, and each suite's canaries judged."""
    if not bundle:
        refuse_given(ctx, ("out", "runs"), "without --bundle")
    from star_bench.cli.doctor import examine
    from star_bench.generation.quiet import quiet_libraries

    quiet_libraries()
    report = examine(device)
    print_result(report["checks"], as_json)
    if bundle:
        from star_bench.cli.bug_report import write_bug_report

        typer.echo(f"written: {out}, which holds", err=True)
        for name, size in write_bug_report(out, report, runs):
            typer.echo(f"  {name} ({size:,} bytes)", err=True)
        typer.echo("Tokens and your home folder's name were taken out. Read it before you send it.", err=True)
    if not report["healthy"]:
        raise Incomplete("something on this machine is not as it should be", "mend the rows that say 'failed'")


@miniature.command()
def build(
    out: Annotated[Path, typer.Option(help="Where the weights are written.")] = Path("miniature-weights"),
    world: Annotated[str, typer.Option(help="small (a CPU can learn it) or large (wants a GPU).")] = "small",
    part: Annotated[
        list[str] | None, typer.Option(help="Only vae, generator, detector, clip or signs; repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    work: Annotated[Path, typer.Option(help="Where unfinished training is kept.")] = Path(".miniature-build"),
    device: Device = "auto",
) -> None:
    """Train all parts of the miniature from a seed. The same command goes on where it was stopped."""
    from star_bench.miniature.build import build as build_all

    build_all(out, world=world, parts=part, seed=seed, work=work, device=device)


miniature.command()(localise)


_stopped: list[int] = []
"""Signals that asked this process to end."""


def _stop(number: int, _frame: FrameType | None) -> None:
    _stopped.append(number)
    raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)


def _call() -> int:
    """Runs the command. Its exit code, after an error with one sentence on stderr."""
    try:
        return app(prog_name="star-bench", standalone_mode=False) or 0  # an exit code where typer met an Exit or Ctrl-C
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else bool(stop.code)
    except Exception as error:  # noqa: BLE001 - the last resort: an exit code of its own
        if _stopped:  # a library made another error of it; what it says is not what happened
            return 128 + _stopped[0]
        if isinstance(error, StarBenchError):
            typer.echo(f"star-bench: {error}", err=True)
            return error.exit_code
        if hasattr(error, "format_message"):  # click's own usage errors
            if error.format_message():  # without any word, the help was printed already
                context = getattr(error, "ctx", None)
                verb = context.command_path if context else "star-bench"
                typer.echo(f"star-bench: {in_words(error)} (see '{verb} --help')", err=True)
            return UsageError.exit_code
        traceback.print_exc()
        typer.echo("star-bench: this is a bug in star-bench; please report it with the lines above.", err=True)
        return CRASH


def main() -> None:
    """The console script: errors become one sentence on stderr and their exit code, signals 128 and their number."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    code = _call()
    if code and _stopped:
        code = 128 + _stopped[0]
    if code == INTERRUPTED:
        typer.echo("star-bench: interrupted; the same command goes on from here.", err=True)
    if _stopped:
        # Not sys.exit: once a KeyboardInterrupt has passed through exec(), which dataclasses use, CPython ends the
        # process by SIGINT, whatever became of the exception. What is registered for the end is done first.
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    if code:
        sys.exit(code)


if __name__ == "__main__":
    main()

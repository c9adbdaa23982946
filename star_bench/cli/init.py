"""`star-bench init`: a package of one's own that works as it is written, to be changed from there."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from star_bench.errors import UsageError

TEMPLATES = Path(__file__).parent / "templates"
NAME = re.compile(r"[a-z][a-z0-9-]*")


class Part(StrEnum):
    """What a package adds."""

    SUITE = "suite"
    EVALUATOR = "evaluator"
    GENERATOR = "generator"


PREFERENCE = "{backend: open_clip, metric: $NAME preference, weights: {shipped: clip}}  # the miniature's CLIP"
POINTS = {
    Part.SUITE: {"suites": "$PACKAGE"},
    Part.EVALUATOR: {"evaluators": "$PACKAGE.evaluator:Judge", "suites": "$PACKAGE"},
    Part.GENERATOR: {"generators": "$PACKAGE.generator:draw"},
}
"""Entry points: group below star_bench -> what $NAME points to."""
USE = {
    Part.SUITE: "star-bench run --model miniature --suite $NAME",
    Part.EVALUATOR: "star-bench run --model miniature --suite $NAME",
    Part.GENERATOR: "star-bench run --model $NAME --suite preference-miniature",
}


def init(
    what: Annotated[str, typer.Argument(help="suite, evaluator (with a suite that it judges) or generator.")],
    name: Annotated[str, typer.Argument(help="Of the part and its package: small letters, digits and '-'.")],
    out: Annotated[Path | None, typer.Option(help="The folder to write; by default one of that name here.")] = None,
) -> None:
    """Write a working package with a suite, an evaluator or a generator of your own."""
    from star_bench.catalogue import checkpoints, plugins, suites
    from star_bench.catalogue.cards import did_you_mean
    from star_bench.files.atomic import write_atomically

    if what not in list(Part):
        raise UsageError(f"{what!r} can't be begun", did_you_mean(what, list(Part)))
    part, folder = Part(what), out or Path(name)
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} can't be a package's name", "use small letters, digits and '-', a letter first")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there already", "choose another name, or give --out a folder that is not there")
    taken = {
        Part.SUITE: suites.names,
        Part.EVALUATOR: lambda: [*suites.names(), *plugins.names(plugins.EVALUATORS)],
        Part.GENERATOR: checkpoints.names,
    }
    if name in taken[part]():
        raise UsageError(f"there is a {part.value} named {name!r} already", "choose another name")
    package = name.replace("-", "_")
    said = {
        "NAME": name,
        "PACKAGE": package,
        "WHAT": f"A {part.value}" if part is not Part.EVALUATOR else "An evaluator",
    }
    points = "".join(
        f'[project.entry-points."star_bench.{group}"]\n$NAME = "{target}"\n\n' for group, target in POINTS[part].items()
    )
    own = part is Part.EVALUATOR
    said["EVALUATOR"] = name if own else "preference"
    said["JUDGES"] = "{}" if own else Template(PREFERENCE).substitute(said)
    said |= {"POINTS": Template(points).substitute(said), "USE": Template(USE[part]).substitute(said)}
    inside = folder / "src" / package
    files = {folder / each: TEMPLATES / f"{each}.template" for each in ("pyproject.toml", "README.md")}
    suite = {inside / each: TEMPLATES / "suite" / each for each in ("card.yaml", "prompts.txt")}
    files |= {inside / path.name: path for path in (TEMPLATES / part.value).iterdir() if path.is_file()}
    files |= suite if own else {}
    for path, template in files.items():
        write_atomically(path, Template(template.read_text(encoding="utf-8")).substitute(said).encode())
    typer.echo(f"written: {folder}\npip install -e {folder}\n{said['USE']}", err=True)

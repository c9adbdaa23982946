"""What was typed on the command line, for options that mean nothing beside others: told by name, never ignored."""

from __future__ import annotations

from collections.abc import Iterable

import typer

from star_bench.errors import UsageError

NOT_TYPED = ("DEFAULT", "DEFAULT_MAP")
"""Names of click's ParameterSource for a value that nobody gave with this command."""


def given(ctx: typer.Context, names: Iterable[str]) -> list[str]:
    """Of a command's parameters, by the names they have in its function, those that were given, as they are typed:
    "as_json" is "--json". A value that equals its default was given too."""
    typed = {parameter.name: parameter.opts[0] for parameter in ctx.command.params}
    sources = {name: ctx.get_parameter_source(name) for name in names}
    return [typed[name] for name, source in sources.items() if source is not None and source.name not in NOT_TYPED]


def refuse_given(ctx: typer.Context, names: Iterable[str], where: str, remedy: str | None = None) -> None:
    """Raises UsageError, naming them, where any of the parameters was given. where: beside what they mean nothing, as in
    "with --images". remedy: by default to leave them out."""
    if said := given(ctx, names):
        listed = " and ".join(filter(None, (", ".join(said[:-1]), said[-1])))
        one = len(said) == 1
        raise UsageError(
            f"{listed} {'means' if one else 'mean'} nothing {where}", remedy or f"leave {'it' if one else 'them'} out"
        )

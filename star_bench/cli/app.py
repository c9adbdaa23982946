"""What every command does before its own function: `-h`, an option that is given once, numbers that are finite, and
`--models`, which says what names mean."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import typer
from typer.core import TyperCommand

from star_bench.errors import UsageError

HELP = {"help_option_names": ["-h", "--help"]}
"""Settings of the uppermost context, which those below it inherit."""


class Command(TyperCommand):
    """Refuses what click takes silently: the last of an option's two values, nan, and infinity."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Raises UsageError."""
        words = list(args)
        try:
            rest = super().parse_args(ctx, args)
        except Exception as error:
            if getattr(error, "ctx", ctx) is None:  # an option without its value does not know whose it is
                error.ctx = ctx  # type: ignore[attr-defined]
            raise
        _, _, order = self.make_parser(ctx).parse_args(words)
        for option, count in Counter(order).items():
            # A flag says the same when it is said again, unless it has an opposite.
            counts_all = getattr(option, "multiple", False) or option.nargs == -1
            if count > 1 and not counts_all and not (getattr(option, "is_flag", False) and not option.secondary_opts):
                raise UsageError(
                    f"{_name(option)} is given {count} times, and only one of them can count", "give it once"
                )
        for option in self.get_params(ctx):
            for number in _floats(ctx.params.get(option.name)):
                if not math.isfinite(number):
                    raise UsageError(f"{_name(option)} can't be {number}", "give a finite number")
        if "models" in ctx.params:
            from star_bench.catalogue.checkpoints import use_file

            use_file(ctx.params["models"])
        return rest


def _name(option: Any) -> str:
    return option.opts[0] if option.opts[0].startswith("-") else (option.metavar or option.name.upper())


def in_words(error: Any) -> str:
    """A usage error of click's in a sentence without a full stop. typer reads values with pydantic."""
    cause = error.__cause__
    if hasattr(cause, "errors") and getattr(error, "param", None) is not None:
        from star_bench.catalogue.cards import wrong

        return f"{_name(error.param)}: {wrong(cause)[1].removesuffix('.')}"
    return str(error.format_message()).removesuffix(".")


def _floats(value: Any) -> Iterator[float]:
    if isinstance(value, float):
        yield value
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _floats(inner)


class App(typer.Typer):
    """A typer.Typer whose commands are `Command`s."""

    def command(
        self, name: str | None = None, *, cls: type[TyperCommand] | None = None, **named: Any
    ) -> Callable[[Any], Any]:
        return super().command(name, cls=cls or Command, **named)

"""What every command does before its own function: its help, an option that is given twice, numbers that are none."""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from star_bench.cli.app import Command
from star_bench.cli.main import app, main
from star_bench.errors import UsageError

Capture = pytest.CaptureFixture[str]


def commands(group: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every command below a group, by its words."""
    for word, each in group.commands.items():
        path = f"{name} {word}".strip()
        if hasattr(each, "commands"):
            yield from commands(each, path)
        else:
            yield path, each


COMMANDS = dict(commands(typer.main.get_command(app)))


def types_of(command: Any) -> dict[str, str]:
    """Of each parameter what its annotation says."""
    hints = typing.get_type_hints(inspect.unwrap(command.callback))
    return {name: str(hint) for name, hint in hints.items()}


def with_value(option: Any, value: str) -> list[str]:
    words = [value] * max(option.nargs, 1)
    return [option.opts[0], *words] if option.opts[0].startswith("-") else words


def fitting(command: Any, option: Any) -> list[str]:
    """An option with a value that can be read."""
    hint = types_of(command)[option.name]
    read = {"Rule": "non-inferior", "Form": "latex", "float": "0.5"}
    value = next((word for kind, word in read.items() if kind in hint), "8")
    return with_value(option, "." if option.name == "prompts_dir" else value)


def needed(command: Any, option: Any) -> list[str]:
    """All that a command can't do without, but for one option."""
    others = (each for each in command.params if each.required and each is not option)
    return [word for each in others for word in fitting(command, each)]


def call(*words: str) -> int:
    """The exit code of the command line."""
    sys.argv = ["star-bench", *words]
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


FLOATS = [(name, each) for name, one in COMMANDS.items() for each in one.params if "float" in types_of(one)[each.name]]
SINGLE = [
    (name, each)
    for name, one in COMMANDS.items()
    for each in one.params
    if each.opts[0].startswith("-") and not each.is_flag and not each.multiple
]


def test_every_command_is_ours_and_has_a_number_somewhere() -> None:
    assert len(COMMANDS) > 25 and all(isinstance(each, Command) for each in COMMANDS.values())
    assert {"run", "gate", "power", "train", "geneval detect", "miniature localise"} <= {name for name, _ in FLOATS}


@pytest.mark.parametrize(("name", "option"), FLOATS, ids=lambda each: getattr(each, "name", each))
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999"])
def test_no_number_is_nan_or_infinite(
    name: str, option: Any, value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(*name.split(), *needed(COMMANDS[name], option), *with_value(option, value)) == UsageError.exit_code
    out, err = capsys.readouterr()
    assert err.startswith(f"star-bench: {option.opts[0]}") and err.count("\n") == 1 and out == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", sorted({name for name, _ in SINGLE}))
def test_a_value_that_would_not_count_is_no_value(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    for option in (each for its, each in SINGLE if its == name):
        twice = 2 * fitting(COMMANDS[name], option)
        assert call(*name.split(), *needed(COMMANDS[name], option), *twice) == UsageError.exit_code
        assert f"{option.opts[0]} is given 2 times" in capsys.readouterr().err


def test_a_flag_may_be_said_twice_but_not_together_with_its_opposite(capsys: Capture) -> None:
    assert call("pull", "nowhere", "--pictures", "--no-pictures") == UsageError.exit_code
    assert "--pictures is given 2 times" in capsys.readouterr().err
    assert call("ls", "suites", "--json", "--json") == 0


@pytest.mark.parametrize("name", ["", "miniature", "geneval", *COMMANDS])
def test_h_is_help(name: str, capsys: Capture) -> None:
    assert call(*name.split(), "-h") == 0
    short = capsys.readouterr().out
    assert call(*name.split(), "--help") == 0
    assert short == capsys.readouterr().out
    assert f"star-bench {name}".strip() in short


def test_a_wrong_word_points_to_the_help_of_its_verb_in_our_own_words(capsys: Capture) -> None:
    for words, said in (
        (
            ("gate", "x", "--baseline", "y", "--margin", "a"),
            "--margin: 'a' is no number (see 'star-bench gate --help')",
        ),
        (("verify", "x", "--batch-size", "0"), "--batch-size: '0' is below 1 (see 'star-bench verify --help')"),
        (("run", "--suite"), "Option '--suite' requires an argument (see 'star-bench run --help')"),
        (("miniature", "build", "--sed", "1"), "(see 'star-bench miniature build --help')"),
        (("gaet",), "Did you mean 'gate'? (see 'star-bench --help')"),
    ):
        assert call(*words) == UsageError.exit_code
        err = capsys.readouterr().err
        assert err.endswith(f"{said}\n") and err.count("\n") == 1

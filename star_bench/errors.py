"""The errors a user can meet: what is wrong, what to do about it, and the exit code.

Exit codes: 0 complete · 1 gate failed · 2 usage · 3 incomplete or degenerate · 4 refused · 5 locked ·
70 a bug · 130 / 143 signals.
"""

from __future__ import annotations

import re
from typing import ClassVar, Self

UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Control characters but for tab and line feed, and those that turn the direction of writing."""


def visible(text: str) -> str:
    """Text that may hold anything, for a terminal: characters that would steer it are shown by their numbers."""
    return UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class StarBenchError(Exception):
    """Any failure that a user can do something about.

    `problem` says what is wrong and `remedy` what to do; together they are one sentence. No trailing full
    stop in either.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, problem: str, remedy: str) -> None:
        self.problem = problem
        self.remedy = remedy
        super().__init__(visible(f"{problem}: {remedy}."))

    def __reduce__(self) -> tuple[type[Self], tuple[str, str]]:
        """An error that another process raised is the same error here."""
        return type(self), (self.problem, self.remedy)


class GateFailed(StarBenchError):
    """A checkpoint did not pass the gate (exit 1)."""

    exit_code = 1


class UsageError(StarBenchError):
    """The command, or a file the user wrote, can't be understood (exit 2)."""

    exit_code = 2


class Incomplete(StarBenchError):
    """Some images have no score (exit 3). Raised only after everything that could be kept was kept."""

    exit_code = 3


class Refused(StarBenchError):
    """Going on could give a number that is not true: a canary, digest, licence or mismatch (exit 4)."""

    exit_code = 4


class MissingWeights(Refused):
    """Weights or data that are not on this machine (exit 4)."""


class Locked(StarBenchError):
    """Another process writes to this run (exit 5)."""

    exit_code = 5

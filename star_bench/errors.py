"""The errors a user can meet: what is wrong, what to do about it, and the exit code.

Exit codes: 0 complete · 1 gate failed · 2 usage · 3 incomplete or degenerate · 4 refused · 5 locked ·
70 a bug · 130 / 143 signals.
"""

from __future__ import annotations

from typing import ClassVar


class StarBenchError(Exception):
    """Any failure that a user can do something about.

    `problem` says what is wrong and `remedy` what to do; together they are one sentence. No trailing full
    stop in either.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, problem: str, remedy: str) -> None:
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{problem}: {remedy}.")


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

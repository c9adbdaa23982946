"""Which runs are meant by the paths that a user names, and what they are called beside each other."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from star_bench.analysis.comparable import differences, waived
from star_bench.analysis.compare import Comparison, compare_all
from star_bench.errors import UsageError
from star_bench.runs.finished import Results, RunFiles, read_finished, read_run

Candidates = Mapping[str, Sequence[RunFiles]]
"""Suite -> the finished runs of it that one path may mean."""
RUN_DEPTHS = ("*", "*/*")
"""A suite's folder holds runs, a model's folder holds suites' folders."""


@dataclass(frozen=True)
class SuiteComparison:
    """One suite's runs, the baseline first, what they are called, and each of the others against the baseline."""

    runs: tuple[RunFiles, ...]
    names: tuple[str, ...]
    comparisons: tuple[Comparison, ...]

    @property
    def results(self) -> Results:
        """Of the baseline, for what all of its runs share."""
        return self.runs[0].results


def compare_paths(paths: Sequence[Path], allow: Collection[str] = ()) -> list[SuiteComparison]:
    """The first path is the baseline. A path is a run's directory or its results.json, or a folder of runs: `runs/<model>`
    or `runs/<model>/<suite>`, of which the suites count that all paths have.

    Raises what `read_run` and `compare_all` raise, and UsageError for fewer than two paths, a path without a finished
    run, runs without a suite in common, and where several or none of a folder's runs fit.
    """
    if len(paths) < 2:
        raise UsageError("there is nothing to compare one run with", "name two or more runs, the baseline first")
    found = [_candidates(path) for path in paths]
    suites = [suite for suite in found[0] if all(suite in other for other in found[1:])]
    if not suites:
        held = "; ".join(f"{path} has {', '.join(runs)}" for path, runs in zip(paths, found, strict=True))
        raise UsageError(f"no suite is common to all of the runs ({held})", "name runs of the same suite")
    out = []
    for suite in suites:
        runs = _choose(suite, [runs[suite] for runs in found], allow)
        out.append(SuiteComparison(runs, names(runs), tuple(compare_all(runs, allow))))
    return out


def _candidates(path: Path) -> Candidates:
    """Raises Incomplete for a run that did not finish, UsageError for a folder without any that did."""
    if path.name == "results.json" or (path / "manifest.json").is_file() or not path.exists():
        run = read_finished(path)
        return {run.results.suite: [run]}
    out: dict[str, list[RunFiles]] = defaultdict(list)
    for file in sorted(file for depth in RUN_DEPTHS for file in path.glob(f"{depth}/results.json")):
        run = read_run(file.parent)
        out[run.results.suite].append(run)
    if not out:
        raise UsageError(
            f"{path} is neither a run's directory nor a folder that holds finished runs",
            "give runs/<model>, or runs/<model>/<suite>/<digest> as 'star-bench run' names it at its end",
        )
    return out


def _choose(suite: str, candidates: Sequence[Sequence[RunFiles]], allow: Collection[str]) -> tuple[RunFiles, ...]:
    """One run of each, the only ones that fit each other; what is allowed counts where none fit without.

    Raises UsageError where several or none fit, and for a run that is named twice.
    """
    combinations = [
        runs for runs in itertools.product(*candidates) if len({run.folder.resolve() for run in runs}) == len(runs)
    ]
    if not combinations:
        folders = [run.folder.resolve() for runs in candidates for run in runs]
        twice = next(folder for folder in folders if folders.count(folder) > 1)
        raise UsageError(f"a run of {suite} is named twice ({twice})", "name each run once")
    if len(combinations) == 1:
        return combinations[0]
    fitting = [runs for runs in combinations if _fit(runs, ())] or [runs for runs in combinations if _fit(runs, allow)]
    if len(fitting) == 1:
        return fitting[0]
    choices = "; ".join(", ".join(str(run.folder) for run in runs) for runs in candidates if len(runs) > 1)
    why = "several combinations" if fitting else f"no combination ({_nearest(combinations)})"
    raise UsageError(
        f"the runs of {suite} can't be chosen: {why} can be compared, out of {choices}",
        "name the runs' own directories",
    )


def _nearest(combinations: Sequence[tuple[RunFiles, ...]]) -> str:
    """What keeps apart the two runs that differ least, in words."""
    pairs = ((runs[0], other) for runs in combinations for other in runs[1:])
    fewest = min((found for pair in pairs if (found := differences(*pair))), key=len)
    more = f" and {len(fewest) - 1} more" if len(fewest) > 1 else ""
    return f"of the two that are most alike, {fewest[0].words}{more}"


def _fit(runs: Sequence[RunFiles], allow: Collection[str]) -> bool:
    """Whether nothing but the model keeps the others apart from the first."""
    return all(waived(each, allow) for other in runs[1:] for each in differences(runs[0], other))


def names(runs: Sequence[RunFiles]) -> tuple[str, ...]:
    """The models' names; of runs of one name with the settings that tell them apart, else with the run's digest."""
    by_model: dict[str, list[RunFiles]] = defaultdict(list)
    for run in runs:
        by_model[run.results.model.name].append(run)
    return tuple(_name(run, by_model[run.results.model.name]) for run in runs)


def _name(run: RunFiles, namesakes: Sequence[RunFiles]) -> str:
    model = run.results.model.name
    if len(namesakes) == 1:
        return model
    own = run.results.protocol or {}
    others = [other.results.protocol or {} for other in namesakes]
    apart = {key: value for key, value in own.items() if any(other.get(key) != value for other in others)}
    if sum(apart.items() <= other.items() for other in others) > 1:
        apart = {}  # another of the name has the same settings
    settings = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in apart.items())
    return f"{model} ({settings or run.results.digest[:8]})"

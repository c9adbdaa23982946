"""Parts found by name: evaluators, detectors, recognisers, engines, suites and generators, own and other packages'.

A package adds one by declaring an entry point; the ones that come with star-bench are declared the same way, in
pyproject.toml. Nothing is imported before it is asked for, and nothing here imports torch.
"""

from __future__ import annotations

from contextlib import suppress
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from star_bench.catalogue.cards import did_you_mean
from star_bench.errors import StarBenchError, UsageError

EVALUATORS = "star_bench.evaluators"
DETECTORS = "star_bench.detectors"
RECOGNISERS = "star_bench.recognisers"
ENGINES = "star_bench.engines"
SUITES = "star_bench.suites"
GENERATORS = "star_bench.generators"


def names(group: str) -> list[str]:
    """The names that can be loaded from an entry point group, sorted."""
    return sorted(_found(group))


def folders(group: str) -> dict[str, Path]:
    """Name -> the folder of the module that it points to, which is looked for and not run. One that is not there is left
    out: what its package lacks is told by that package's own installer."""
    out = {}
    for name, claims in _found(group).items():
        with suppress(ImportError, ValueError):
            spec = find_spec(next(iter(claims.values())).value.partition(":")[0])
            if spec is not None and spec.origin is not None:
                out[name] = Path(spec.origin).parent
    return out


def version(group: str, name: str) -> str:
    """Of the package that a part comes from; empty where it is not known."""
    points = _found(group).get(name, {}).values()
    return next((point.dist.version for point in points if point.dist), "")


def load(group: str, name: str) -> Any:
    """The object behind a name.

    Raises UsageError for an unknown name, for a name that two packages claim, and for a plugin that can't be imported.
    """
    found = _found(group)
    kind = group.rpartition(".")[2].rstrip("s")
    if not found:
        raise UsageError(
            f"no {kind} is registered, not even star-bench's own",
            "reinstall star-bench (pip install -e .)",
        )
    if name not in found:
        raise UsageError(f"there is no {kind} named {name!r}", did_you_mean(name, found))
    claims = found[name]
    if len(claims) > 1:
        packages = " and ".join(sorted(_package(claim) for claim in claims.values()))
        raise UsageError(
            f"the {kind} {name!r} is claimed by {packages}",
            "uninstall all but one of them",
        )
    (point,) = claims.values()
    try:
        return point.load()
    except StarBenchError:
        raise
    except Exception as error:  # a plugin is foreign code: whatever its import raises is its own fault, not ours
        raise UsageError(
            f"the {kind} {name!r} of {_package(point)} can't be imported ({type(error).__name__}: {error})",
            f"mend or reinstall {_package(point)}",
        ) from error


def _found(group: str) -> dict[str, dict[str, EntryPoint]]:
    """Name -> where it points -> entry point. One package seen twice on sys.path is one claim."""
    found: dict[str, dict[str, EntryPoint]] = {}
    for point in entry_points(group=group):
        found.setdefault(point.name, {})[point.value] = point
    return found


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else point.value.partition(":")[0]

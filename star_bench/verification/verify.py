"""Is a run what it says? Its files by their digests, its summary by its scores, its scores by its pictures.

What this can't tell: whether the pictures were made as the manifest says, or chosen among many. That takes generating
them again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from star_bench.errors import Refused, UsageError
from star_bench.files.digests import digest_of, sha256_of
from star_bench.files.json import read_json
from star_bench.runs.bundle import check_picture_path, newest, unpack
from star_bench.runs.finished import RunFiles, drawn_of, read_run
from star_bench.runs.manifest import read_manifest
from star_bench.runs.pictures import SAMPLES
from star_bench.runs.plan import Plan
from star_bench.runs.progress import Progress
from star_bench.runs.references import find
from star_bench.runs.store import Key, locked
from star_bench.runs.summary import summarise, values
from star_bench.statistics.bootstrap import METHOD
from star_bench.verification.recorded import Recorded, differing, plain, recorded_run
from star_bench.verification.rescore import RELATIVE, Rescored, is_close, rescore

SUMMARY = (
    *("schema", "suite", "generation", "protocol", "digest", "subset", "counts", "complete"),
    *("interval", "judges"),
)
"""What of results.json, beside its aggregates and tags, is made of the scores and the plan; the rest is said of them."""
SAME_VALUE = 1e-9  # relative, chosen here: the same sums in another order; far below the six decimals of results.json


SHOWN = 20  # chosen here: --json has every number
AGAIN = "get the run again from who made it: this one was changed"


class Verdict(StrEnum):
    EQUAL = "equal"
    DIFFERS = "differs"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True)
class Verification:
    """What was compared, and what came of it.

    summary: numbers of results.json and values.jsonl that do not follow from the scores, as sentences.
    absent: pictures that the run names and that are not there. rescored is None without scoring.
    """

    run: str
    model: str
    suite: str
    metric: str
    counts: dict[str, int]
    pictures: int
    prompts: str
    summary: tuple[str, ...]
    absent: tuple[str, ...]
    complete: bool
    rescored: Rescored | None
    interval: str = METHOD

    @property
    def verdict(self) -> Verdict:
        """A difference weighs more than what is lacking."""
        if self.summary or (self.rescored and self.rescored.changes):
            return Verdict.DIFFERS
        if self.absent or not self.complete or (self.rescored and self.rescored.unjudged):
            return Verdict.INCOMPLETE
        return Verdict.EQUAL

    @property
    def sentence(self) -> str:
        """What a reader must know, the verdict first."""
        said = list(self.summary[:3])
        if len(self.summary) > 3:
            said.append(f"{len(self.summary) - 3} more numbers do not follow from the scores")
        if self.rescored:
            said += self.rescored.sentences
        if self.absent:
            said.append(f"{len(self.absent)} pictures are not there, the first {self.absent[0]}")
        if not self.complete:
            said.append(f"only {self.counts['ok']} of {self.counts['planned']} images have a score")
        if self.rescored is None:
            said.append("the pictures were not judged again")
        return f"{self.verdict}: " + "; ".join(said)

    def table(self) -> dict[str, Any]:
        """What a person reads: one line per thing that was compared."""
        out: dict[str, Any] = {
            "run": f"{self.model} on {self.suite}, {self.run[:16]}",
            "metric": self.metric,
            "interval": self.interval,
            "pictures": f"{self.pictures} have the recorded sha256"
            + (f", {len(self.absent)} absent" * bool(self.absent)),
            "prompts": self.prompts,
            "summary": "\n".join(self.summary[:SHOWN]) or "every number follows from the recorded scores",
        }
        if self.rescored is None:
            return {**out, "scores": "not judged again (--no-scoring)", "verdict": self.verdict.value}
        found = self.rescored
        out["canaries"] = f"{found.canaries} judged as they must be"
        out["scores"] = (
            f"{found.judged} judged again on {found.device}: {found.same} exactly equal, {found.close} within {RELATIVE:g} "
            f"relative, {found.changed} otherwise, {len(found.unjudged)} could not be judged"
        )
        if found.largest is not None:
            out["largest difference"] = found.largest
        if found.headline:
            out[f"{found.headline['title']}, judged here"] = _with_interval(found.headline)
        return {**out, "verdict": self.verdict.value}

    def as_dict(self) -> dict[str, Any]:
        """Plain data for --json."""
        tolerance = f"scores within {RELATIVE:g} of each other, relative; 0 and 1 exactly"
        return {"verdict": self.verdict.value, "sentence": self.sentence, **asdict(self), "tolerance": tolerance}


def _with_interval(row: dict[str, Any]) -> str:
    value, low, high = (row[key] for key in ("value", "low", "high"))
    if value is None:
        return "no value"
    return f"{value:.6f}" + ("" if low is None else f" [{low:.6f}, {high:.6f}]")


def verify(
    path: Path, *, work: Path, suite: str | None, begin: Callable[[], str] | None, batch_size: int, bar: Progress
) -> Verification:
    """Checks a bundle, or the directory of a run.

    begin: called once the files fit together, before anything is loaded to judge the pictures; gives the device to do it
    on. None: they are not judged. work: where a bundle is unpacked and new scores are kept until the end. Stopped, the
    same call goes on with them.
    Raises UsageError for what is no run, Refused for one that was changed or that can't be judged here, Locked.
    """
    with _opened(path, work, bar) as (folder, kept):
        manifest = read_manifest(folder)
        run = read_run(folder)
        if run.results.digest != manifest.digest:
            raise Refused(
                f"results.json has the digest {run.results.digest[:16]} and manifest.json {manifest.digest[:16]}", AGAIN
            )
        device = begin() if begin else "cpu"
        recorded = recorded_run(run, manifest, suite=suite, device=device, scoring=begin is not None)
        rows = _scored_rows(run, recorded.plan)
        absent = _check_pictures(run)
        try:
            summary = tuple(_summary(run, recorded, rows, digest=manifest.digest))
        except (LookupError, TypeError, ValueError) as error:  # an evaluator's own detail can be anything
            raise Refused(f"scores.jsonl holds a score that its evaluator can't read ({error!r})", AGAIN) from None
        rescored = None
        if begin:
            scores = kept / f"scored-{digest_of([manifest.metric, manifest.judges, device])[:8]}"
            rescored = rescore(run, recorded, scores, skip=absent, device=device, batch_size=batch_size, bar=bar)
    results = run.results
    return Verification(
        run=manifest.digest,
        model=results.model.name,
        suite=results.suite,
        metric=results.metric.identity,
        counts=results.counts.model_dump(),
        pictures=sum(image.sample is not None and image.sample.path is not None for image in run.images) - len(absent),
        prompts=recorded.prompts,
        summary=summary,
        absent=tuple(sorted(absent)),
        complete=results.is_complete,
        rescored=rescored,
    )


@contextmanager
def _opened(path: Path, work: Path, bar: Progress) -> Iterator[tuple[Path, Path]]:
    """(the run's files, a folder to work in). Where the work is stopped, new scores stay in the folder, and nothing else."""
    is_run = path.is_dir() or path.name == "results.json"
    if is_run:
        run = find(path)
        key = digest_of([read_manifest(run).digest, sha256_of(drawn_of(run) / SAMPLES)])
    elif path.is_file():
        key = sha256_of(path)
    else:
        raise UsageError(f"{path} is not there", "give a bundle, or the directory of a run")
    folder = work / key[:16]
    unpacked = folder / "run"
    stopped = False
    with locked(folder):
        try:
            if not is_run:
                shutil.rmtree(unpacked, ignore_errors=True)  # of a verification that was killed
                unpack(path, unpacked, bar)
            yield (run if is_run else unpacked), folder
        except (KeyboardInterrupt, SystemExit):
            stopped = True
            raise
        finally:
            shutil.rmtree(unpacked if stopped else folder, ignore_errors=True)


def _scored_rows(run: RunFiles, plan: Plan) -> dict[Key, dict[str, Any]]:
    """The recorded scores by picture, each of the picture that samples.jsonl has. Raises Refused for any other."""
    rows = newest(run.folder / "scores.jsonl")
    samples = {(image.prompt.id, image.k): image.sample for image in run.images}
    planned = {item.key for item in plan.items}
    if strangers := (rows.keys() | samples.keys()) - planned:
        raise Refused(
            f"image {min(strangers)[1]} of prompt {min(strangers)[0]!r} is recorded and was not planned", AGAIN
        )
    for key in sorted(planned):
        sample = samples.get(key)
        if key not in rows or sample is None:
            raise Refused(f"image {key[1]} of prompt {key[0]!r} was planned and has no row", AGAIN)
        if rows[key].get("sha256") != sample.sha256:
            raise Refused(f"the score of image {key[1]} of prompt {key[0]!r} is of another picture", AGAIN)
        if sample.path is None and rows[key]["status"] == "ok":
            raise Refused(f"image {key[1]} of prompt {key[0]!r} has a score and no picture", AGAIN)
    return rows


def _check_pictures(run: RunFiles) -> set[str]:
    """The paths of pictures that are not there. Raises Refused for one that is not what samples.jsonl says."""
    absent = set()
    for image in run.images:
        if image.sample is None or image.sample.path is None:
            continue
        path = run.pictures / check_picture_path(image.sample.path)
        if not path.is_file():
            absent.add(image.sample.path)
        elif sha256_of(path) != image.sample.sha256:
            raise Refused(f"{image.sample.path} is not the picture that samples.jsonl says", AGAIN)
    return absent


def _compared(results: dict[str, Any]) -> dict[str, Any]:
    """The numbers of a results.json, aggregates and tags by their names."""
    aggregates = {row["name"]: row for row in results["aggregates"]}
    tags = {f"tag {row['tag']}": row for row in results["tags"]}
    return {**{key: results.get(key) for key in SUMMARY}, **aggregates, **tags}


def _summary(run: RunFiles, recorded: Recorded, rows: dict[Key, dict[str, Any]], *, digest: str) -> Iterator[str]:
    """Every recorded number that is not what the scores give. digest: of the manifest, which was made again before; of
    0.1.0 it is another one than today's of the same plan."""
    plan, evaluator = recorded.plan, recorded.evaluator
    now = plain(summarise(plan, evaluator, rows, canaries=run.results.canaries)) | {"digest": digest}
    was = read_json(run.folder / "results.json")
    for name, old, new in differing(_compared(was), _compared(now)):
        yield f"{name} is {old} in results.json and {new} by the scores"
    for row in values(plan, evaluator, rows):
        for name, numbers in plain(row["values"]).items():
            old = run.values.get(row["prompt_id"], {}).get(name, [])
            if len(old) != len(numbers) or not all(map(is_close, old, numbers, [SAME_VALUE] * len(old))):
                yield f"{name} of prompt {row['prompt_id']!r} is {old} in values.jsonl and {numbers} by the scores"

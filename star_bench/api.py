"""What a notebook or script imports: `import star_bench`, then evaluate, score, load_run, runs, compare, list_models,
list_suites. Stable: names and arguments change only with a new major version.

`import star_bench` loads neither torch nor pandas; they come with the first call that needs them. What goes wrong is raised
as the classes of `star_bench.errors`, each with what to do about it.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star_bench.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

    from star_bench.analysis.runs import SuiteComparison
    from star_bench.evaluators.base import Score
    from star_bench.runs.finished import RunFiles

Picture = Any
"""A PIL image, an array (height, width, 3) of uint8, or the path of a file."""
Draw = Callable[[list[str], list[int]], Sequence[Any]]
"""(prompts, seeds) -> a picture of each, in order."""


@dataclass(frozen=True)
class Run:
    """A finished run of one suite. path: its directory; report: its page, where one was written."""

    path: Path
    report: Path | None
    _files: RunFiles = field(repr=False)

    @property
    def summary(self) -> dict[str, Any]:
        """The headline: model, suite, metric (its identity), measure, value, low, high (95 %), images, prompts, complete,
        notices; value is None where nothing was scored."""
        from star_bench.analysis import caveats

        results, headline = self._files.results, self._files.results.aggregates[0]
        return {
            "model": results.model.name,
            "suite": results.suite,
            "metric": results.metric.identity,
            "measure": headline.title,
            "value": headline.value,
            "low": headline.low,
            "high": headline.high,
            "images": headline.n_images,
            "prompts": headline.n_prompts,
            "complete": results.is_complete,
            "notices": caveats.notices(results),
        }

    def measures(self) -> pd.DataFrame:
        """Every aggregate and tag: columns measure, value, low, high, images, prompts."""
        from star_bench.reporting.tables import measure_frame

        return measure_frame(self._files.results)

    def frame(self) -> pd.DataFrame:
        """A row per picture: prompt, tag, k, status, value and what the judge saw. value is missing where status is not
        ok."""
        from star_bench.reporting.export.parquet import scores_frame

        return scores_frame([self._files])

    def _repr_html_(self) -> str:
        from star_bench.reporting.tables import caption

        said = f"<p><small>{html.escape(caption(self._files.results))}</small></p>"
        return f"{self.measures().to_html(index=False, na_rep='–', float_format='{:.4f}'.format)}{said}"


@dataclass(frozen=True)
class Evaluation:
    """What one call of `evaluate` measured: a run per suite, in their order, also by name: evaluation["geneval"]."""

    runs: tuple[Run, ...]

    def __getitem__(self, suite: str) -> Run:
        for run in self.runs:
            if run.summary["suite"] == suite:
                return run
        raise KeyError(suite)

    @property
    def summary(self) -> list[dict[str, Any]]:
        """Of each run."""
        return [run.summary for run in self.runs]

    def frame(self) -> pd.DataFrame:
        """A row per picture and suite, as `Run.frame`."""
        import pandas as pd

        return pd.concat([run.frame() for run in self.runs], ignore_index=True)

    def _repr_html_(self) -> str:
        return "".join(f"<h4>{html.escape(run.summary['suite'])}</h4>{run._repr_html_()}" for run in self.runs)


@dataclass(frozen=True)
class Scores:
    """What a suite's judge says of pictures: `values` and `statuses`, one of each picture, in order."""

    suite: str
    metric: str
    prompts: tuple[str, ...]
    scores: tuple[Score, ...]

    @property
    def values(self) -> list[float | None]:
        """None where there is no score; never 0 for a failure."""
        return [score.value for score in self.scores]

    @property
    def summary(self) -> dict[str, Any]:
        """Over the pictures with a score: mean, and of how many; a picture without one is in no mean."""
        found = [score.value for score in self.scores if score.value is not None]
        mean = sum(found) / len(found) if found else None
        return {"suite": self.suite, "metric": self.metric, "mean": mean, "scored": len(found), "of": len(self.scores)}

    def frame(self) -> pd.DataFrame:
        """Columns prompt, status, value, detail."""
        import pandas as pd

        rows = [
            (prompt, score.status.value, score.value, score.detail)
            for prompt, score in zip(self.prompts, self.scores, strict=True)
        ]
        return pd.DataFrame(rows, columns=["prompt", "status", "value", "detail"]).astype({"value": "Float64"})

    def _repr_html_(self) -> str:
        said = f"<p><small>{html.escape(self.metric)}</small></p>"
        return f"{self.frame().drop(columns='detail').to_html(index=False, na_rep='–')}{said}"


@dataclass(frozen=True)
class Comparison:
    """Two runs of one suite, picture by picture of the same prompts and noise."""

    _compared: SuiteComparison = field(repr=False)

    @property
    def summary(self) -> str:
        """One sentence: which is better, by how much, and how sure that is."""
        from star_bench.reporting.comparison.words import sentence

        return sentence(self._compared.comparisons[0], *self._compared.names)

    def frame(self) -> pd.DataFrame:
        """A row per measure: before, after, difference with its interval, p."""
        from star_bench.reporting.comparison.tables import tidy_frame

        return tidy_frame([self._compared])

    def _repr_html_(self) -> str:
        shown = self.frame()[["title", "before", "after", "difference", "low", "high", "p"]]
        table = shown.to_html(index=False, na_rep="–", float_format="{:.4f}".format)
        return f"<p>{html.escape(self.summary)}</p>{table}"


def evaluate(
    model: str | Draw,
    suites: Sequence[str],
    *,
    name: str | None = None,
    version: str = "",
    protocol: str = "model",
    settings: Mapping[str, Any] | None = None,
    samples: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    batch_size: int = 8,
    device: str = "auto",
    dtype: str = "auto",
    runs: str | Path = "runs",
    reports: str | Path | None = "reports",
    progress: bool = True,
) -> Evaluation:
    """Draws, judges and reports, as `star-bench run`; the same call goes on with what is stored.

    model: what `--model` takes, or a function (prompts, seeds) -> pictures, which needs a `name`; give it another `version`
    when it draws otherwise. settings: steps, guidance_scale, negative_prompt, height, width, before those of `protocol`.
    reports: None writes no pages.

    Raises the errors of `star_bench.errors`: UsageError, MissingWeights and Refused before anything is drawn. A run in which
    pictures have no score is returned, and says so: `complete` is False.
    """
    from star_bench.catalogue.cards import parse
    from star_bench.catalogue.protocol import GenerationSettings
    from star_bench.generation.quiet import quiet_libraries
    from star_bench.runs import run as runner
    from star_bench.runs.callable import CallableModel
    from star_bench.runs.progress import Silent

    if isinstance(suites, str):
        raise UsageError("suites must be a list", f"give [{suites!r}]")
    drawn_by: CallableModel | None = None
    if not isinstance(model, str):
        if not name:
            raise UsageError("a function has no name of its own", "give name=, under which its runs are kept")
        if settings or protocol != "model":
            raise UsageError(
                "a function draws by its own settings", "leave protocol and settings out, and set them there"
            )
        drawn_by = CallableModel(name, model, version)
    elif name or version:
        raise UsageError("name and version are of a function, and a checkpoint has its own", "leave them out")
    options = runner.Options(
        suites=tuple(suites),
        model=model if isinstance(model, str) else None,
        drawn_by=drawn_by,
        protocol=protocol,
        settings=parse(GenerationSettings, dict(settings or {}), "settings"),
        samples=samples,
        limit=limit,
        seed=seed,
        batch_size=batch_size,
        device=device,
        dtype=dtype,
        runs=Path(runs),
    )
    prepared = runner.prepare(options)
    if progress:
        from star_bench.reporting.progress import RichProgress

        with RichProgress() as bar:
            runner.run(prepared, options, bar, begin=quiet_libraries)
    else:
        runner.run(prepared, options, Silent(), begin=quiet_libraries)
    return Evaluation(tuple(_loaded(part.folder, reports) for part in prepared.parts))


def score(images: Sequence[Picture], prompts: Sequence[str], *, suite: str, device: str = "auto") -> Scores:
    """Judges pictures with a suite's judge, after its canaries; nothing is stored.

    A judge that goes by the prompts' metadata (GenEval's) takes the suite's own prompts only. Raises UsageError, and the
    errors of a judge that is not here.
    """
    from star_bench.catalogue import suites
    from star_bench.evaluators.base import check_canaries
    from star_bench.runs.callable import as_image
    from star_bench.runs.run import choose_device
    from star_bench.runs.workers import finished, judging, make_evaluator

    if len(images) != len(prompts):
        raise UsageError(f"there are {len(images)} pictures and {len(prompts)} prompts", "give one prompt for each")
    evaluator = make_evaluator(suites.load(suite), choose_device(device))
    asked = _asked(evaluator, prompts)
    pictures = [_picture(image, as_image) for image in images]
    evaluator.judges()
    check_canaries(evaluator)
    begun = judging(evaluator, lambda _: None)(list(zip(asked, pictures, strict=True)))
    return Scores(suite, evaluator.metric.identity, tuple(prompts), tuple(map(finished, begun)))


def _asked(evaluator: Any, prompts: Sequence[str]) -> list[Any]:
    """The suite's prompts of these texts; where its judge goes by the text alone, any."""
    from star_bench.evaluators.base import Prompt

    own = {prompt.text: prompt for prompt in evaluator.prompts()}
    by_text = all(evaluator.asked(prompt.metadata, prompt.id) is None for prompt in list(own.values())[:1])
    strange = [text for text in prompts if text not in own]
    if strange and not by_text:
        raise UsageError(
            f"suite {evaluator.card.name!r} has no prompt {strange[0]!r}, and its judge goes by more than the text",
            "give the suite's own prompts, or judge by a suite of your own",
        )
    return [own.get(text) or Prompt(f"given-{i:05d}", text) for i, text in enumerate(prompts)]


def _picture(image: Picture, as_image: Callable[[Any, str], Any]) -> Any:
    from star_bench.files.pictures import read_picture

    return read_picture(Path(image)) if isinstance(image, (str, Path)) else as_image(image, "a picture")


def load_run(named: str | Path) -> Run:
    """A finished run: its path, model/suite, the beginning of its digest, or "latest".

    Raises UsageError where there is none or several, Incomplete for one that did not finish, Refused for a broken one.
    """
    return _loaded(_find(named), None)


def _find(named: str | Path) -> Path:
    from star_bench.runs.references import find

    return find(Path(named))


def _loaded(folder: Path, reports: str | Path | None) -> Run:
    from star_bench.reporting.write import report_name, write_report
    from star_bench.runs.finished import read_finished

    files = read_finished(folder)
    page = write_report(folder, Path(reports) / report_name(files.results)) if reports is not None else None
    return Run(folder, page, files)


def runs(folder: str | Path = "runs", *, model: str | None = None, suite: str | None = None) -> pd.DataFrame:
    """A row per run below `folder`, as `star-bench ls runs --json`."""
    import pandas as pd

    from star_bench.reporting.listing import runs as rows

    return pd.DataFrame(rows(Path(folder), model=model, suite=suite))


def compare(before: str | Path | Run, after: str | Path | Run, *, allow: Sequence[str] = ()) -> Comparison:
    """Two runs of one suite, as `star-bench compare`. allow: differences that are known and meant, by their names.

    Raises Refused where more than the model differs, naming what.
    """
    from star_bench.analysis.compare import compare_all
    from star_bench.analysis.runs import SuiteComparison, names

    pair = tuple((each if isinstance(each, Run) else load_run(each))._files for each in (before, after))
    return Comparison(SuiteComparison(pair, names(pair), tuple(compare_all(pair, allow))))


def list_models() -> list[str]:
    """The names that `evaluate` takes; a path or org/name@revision of a hub is taken too."""
    from star_bench.catalogue import checkpoints

    return checkpoints.names()


def list_suites() -> list[str]:
    """The suites that come with the package; the path of a card.yaml is taken too."""
    from star_bench.catalogue import suites

    return suites.names()

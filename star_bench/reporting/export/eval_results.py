"""Hugging Face's .eval_results/*.yaml: a number for a benchmark's leaderboard on the Hub.

The format is huggingface_hub's own (`EvalResultEntry`); see https://huggingface.co/docs/hub/eval-results. A leaderboard
shows the number alone, so a run that is not whole is refused here.
"""

from __future__ import annotations

from star_bench.analysis.caveats import shortcomings
from star_bench.analysis.identity import identity_of
from star_bench.analysis.numbers import number
from star_bench.errors import Incomplete, Refused
from star_bench.runs.finished import Results
from star_bench.runs.manifest import Manifest
from star_bench.version import __version__


def eval_results_yaml(
    results: Results, manifest: Manifest, *, dataset: str, task: str, source_url: str | None = None
) -> str:
    """One entry: the headline. dataset: a benchmark on the Hub; task: an id in its eval.yaml; both are the user's to say,
    since no run knows them. source_url: where the run can be seen.

    Raises Incomplete for a run without all its scores, Refused for a subset.
    """
    import yaml
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    remedy = "finish the whole suite, or use --as model-card, which says what is lacking"
    headline = results.aggregates[0]
    if not results.is_complete or headline.value is None:
        raise Incomplete(
            f"a leaderboard would show this number as if it were whole ({shortcomings(results)[0]})", remedy
        )
    if results.subset:
        raise Refused(f"a leaderboard would show this number as if it were whole ({shortcomings(results)[0]})", remedy)
    entry = EvalResultEntry(
        dataset_id=dataset,
        task_id=task,
        value=headline.value,
        date=manifest.finished.isoformat() if manifest.finished else None,
        source_url=source_url,
        source_name="star-bench" if source_url else None,
        notes=notes(results, manifest),
    )
    return yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False, allow_unicode=True, width=120)


def notes(results: Results, manifest: Manifest) -> str:
    """What the number is, in one line."""
    headline = results.aggregates[0]
    said = [*shortcomings(results), f"{identity_of(results, headline.name)}; {headline.title}"]
    if headline.low is not None and headline.high is not None:
        said.append(f"[{number(headline.low)}, {number(headline.high)}], {results.interval}")
    said.append(f"{headline.n_images} images of {headline.n_prompts} prompts")
    if results.protocol:
        said.append(", ".join(f"{key} {value!r}" for key, value in results.protocol.items()))
    said.append(f"run {results.digest} by star-bench {manifest.star_bench}, written by {__version__}")
    return "; ".join(said)

"""Judges of other packages that raise, hang, or answer with what is no score."""

from __future__ import annotations

import json
import shutil
import textwrap
from pathlib import Path

import yaml
from figures import Row, publish
from processes import call
from stored import one_run

from star_bench.catalogue.suites import load
from star_bench.errors import Incomplete, UsageError

JUDGE = textwrap.dedent(
    """
    import sys, time
    from star_bench.evaluators.base import Evaluator, Metric, Prompt, Score

    BEHAVIOUR = {
        "raises": lambda n: 1 / 0,
        "exits": lambda n: sys.exit(0),
        "hangs": lambda n: time.sleep(10_000),
        "nan": lambda n: [Score(float("nan"))] * n,
        "few": lambda n: [Score(0.5)] * (n - 1),
        "many": lambda n: [Score(0.5)] * (n + 1),
        "none": lambda n: None,
        "numbers": lambda n: [0.5] * n,
        "word": lambda n: [Score("good")] * n,
        "detail": lambda n: [Score(0.5, detail={"x": float("nan")})] * n,
        "object": lambda n: [Score(0.5, detail={"x": object()})] * n,
    }

    class Judge(Evaluator):
        metric = Metric("mine", "mine", "1", "share", (0, 1), "MIT", "")

        def prompts(self):
            return [Prompt("a", "a photo of a car"), *(Prompt(name, name) for name in BEHAVIOUR if name != "hangs"),
                    Prompt("hangs", "hangs"), Prompt("z", "a photo of a kite")]

        def canaries(self):
            return []

        def score(self, images, prompts):
            for prompt in prompts:
                if prompt.id in BEHAVIOUR:
                    return BEHAVIOUR[prompt.id](len(images))
            return [Score(0.5) for _ in images]
    """
)
BAD = ("raises", "exits", "nan", "few", "many", "none", "numbers", "word", "detail", "object", "hangs")


def suite(folder: Path) -> tuple[Path, str]:
    """A card that names a judge, and the folder of the package that the judge is in."""
    site = folder / "site"
    info = site / "odd_judge-1.dist-info"
    info.mkdir(parents=True)
    (site / "odd_judge.py").write_text(JUDGE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-judge\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[star_bench.evaluators]\nodd = odd_judge:Judge\n")
    card = Path(shutil.copytree(load("ocr-miniature").folder, folder / "odd")) / "card.yaml"
    said = yaml.safe_load(card.read_text()) | {"name": "odd", "evaluator": "odd", "judges": {}}
    card.write_text(yaml.safe_dump(said))
    return card, str(site)


def test_a_run_survives_a_judge_that_misbehaves(tmp_path: Path) -> None:
    card, site = suite(tmp_path)
    words = ("run", "--model", "miniature", "--suite", str(card), "--steps", "1", "--samples", "1", "--batch-size", "1")
    more = {"PYTHONPATH": site, "STAR_BENCH_JUDGE_TIMEOUT": "3"}
    done = call(tmp_path, *words, "--json", **more)  # ends, though a thread hangs for hours
    assert done.returncode == Incomplete.exit_code, done.stderr[-2000:]
    rows = [json.loads(line) for line in (one_run(tmp_path) / "scores.jsonl").read_text().splitlines()]
    scores = {row["prompt_id"]: row for row in rows}
    failures = [
        f"{name}: {scores[name]}"
        for name in BAD
        if scores[name]["status"] != "error" or scores[name]["value"] is not None or not scores[name]["detail"]["error"]
    ]
    assert scores["a"]["value"] == 0.5, "what was judged before is kept"
    assert "did not answer within 3 s before" in scores["z"]["detail"]["error"], "a judge that hangs is asked no more"
    assert "did not answer within 3 s" in scores["hangs"]["detail"]["error"]
    assert json.loads(done.stdout)["aggregates"][0]["value"] == 0.5, "failures are in no mean"
    tried = len(BAD)
    publish(
        Row(
            "inputs",
            "judges that raise, hang, return NaN or the wrong length",
            "the run survives, the sample is an error, exit 3",
            tried,
            tried - len(failures),
        ),
        failures,
    )


def test_a_time_limit_that_is_none_is_told(tmp_path: Path) -> None:
    words = ("run", "--model", "miniature", "--suite", "ocr-miniature", "--limit", "1", "--steps", "1")
    done = call(tmp_path, *words, STAR_BENCH_JUDGE_TIMEOUT="soon")
    assert done.returncode == UsageError.exit_code and "STAR_BENCH_JUDGE_TIMEOUT" in done.stderr

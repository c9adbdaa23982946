"""Evaluation during training: a run of a suite like any other, with the policy that is being trained."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from star_bench.assets.model_files import LocalCheckpoint
from star_bench.catalogue import licences
from star_bench.catalogue.checkpoints import Checkpoint
from star_bench.catalogue.protocol import GenerationSettings
from star_bench.evaluators.base import Evaluator
from star_bench.generation.sampler import Sampler
from star_bench.runs.draw import draw, generate, opening
from star_bench.runs.engines.base import Settings
from star_bench.runs.engines.local import LocalEngine
from star_bench.runs.environment import environment
from star_bench.runs.pictures import open_pictures
from star_bench.runs.plan import Plan, Subject, merge_protocol, select
from star_bench.runs.progress import Progress
from star_bench.runs.score import begin_scores, judge
from star_bench.runs.scores import open_scores
from star_bench.runs.workers import Generate, generating
from star_bench.training.actor import Actor
from star_bench.training.recipe import EvaluationSettings

BATCH_SIZE = 8  # as `star-bench run`


class Evaluation:
    """The suites of a recipe, ready to judge the policy at the guidance that it is trained under."""

    def __init__(
        self,
        settings: EvaluationSettings,
        evaluators: Sequence[Evaluator],
        *,
        actor: Actor,
        checkpoint: Checkpoint,
        local: LocalCheckpoint,
        folder: Path,
    ) -> None:
        """evaluators: of the settings' suites. folder: where the runs are kept. Raises what finding a judge raises."""
        self.settings, self.actor, self.checkpoint, self.local = settings, actor, checkpoint, local
        self.folder = folder
        self.evaluators = list(evaluators)
        self._judges = [evaluator.judges() for evaluator in self.evaluators]

    def is_due(self, epoch: int) -> bool:
        """Before the first epoch and after every so many."""
        return epoch % self.settings.every == 0

    def run(self, epoch: int, weights: dict[str, Tensor], bar: Progress) -> dict[str, float | None]:
        """The suites' aggregates as metrics, "eval/<suite>/<aggregate>". weights: those that the pipeline was given.

        Pictures and scores are kept, and an interrupted evaluation goes on.
        """
        out: dict[str, float | None] = {}
        for evaluator, judges in zip(self.evaluators, self._judges, strict=True):
            results = self._run(evaluator, judges, epoch, weights, bar)
            suite = evaluator.card.name
            out |= {f"eval/{suite}/{row['name']}": row["value"] for row in results["aggregates"]}
            out |= {f"eval/{suite}/{row['tag']}": row["value"] for row in results["tags"]}
        return out

    def _run(
        self, evaluator: Evaluator, judges: dict[str, str], epoch: int, weights: dict[str, Tensor], bar: Progress
    ) -> dict[str, Any]:
        everything = evaluator.prompts()
        protocol = merge_protocol(
            # The guidance of training; what is left open is the checkpoint's own.
            GenerationSettings(
                steps=self.settings.steps,
                guidance_scale=self.actor.policy.guidance_scale,
            ),
            self.checkpoint.generation,
            seed=self.settings.seed,
            dtype=self.actor.dtype,
            device=self.actor.device.split(":")[0],
            where=self.checkpoint.name,
        )
        parts = tuple(licences.of_checkpoint(self.checkpoint))
        subject = Subject(
            f"epoch-{epoch:06d}", digest(self.local.digest, weights), self.checkpoint.licence, licences=parts
        )
        prompts = select(everything, self.settings.limit)
        samples = self.settings.samples or evaluator.card.protocol.samples or 1
        plan = Plan(subject, evaluator.card, evaluator.metric, judges, prompts, len(everything), samples, protocol)

        def worker() -> Generate:
            return generating(Sampler(self.actor.pipe, protocol), bar.note)

        batches, engine = plan.batches(BATCH_SIZE), LocalEngine(Settings())
        about: dict[str, Any] = {
            "environment": environment(self.actor.device),
            "source": {"checkpoint": self.checkpoint.name, "epoch": epoch},
        }
        with (
            open_scores(plan.folder(self.folder)) as scores,
            open_pictures(plan.pictures.folder(self.folder)) as pictures,
        ):
            canaries = begin_scores(plan, scores, evaluator, bar=bar, **about)
            pictures.opening(**opening(plan.pictures, batch_size=BATCH_SIZE, **about))
            stored = list(draw(pictures, generate(batches, pictures, worker, engine, bar)))
            return judge(plan, batches, stored, pictures, scores, evaluator, canaries=canaries, bar=bar)


def digest(base: str, weights: dict[str, Tensor]) -> str:
    """sha256 of the base's content digest and the trained weights' names and float32 bytes, hexadecimal."""
    total = hashlib.sha256(base.encode())
    for name in sorted(weights):
        total.update(name.encode() + b"\0" + weights[name].detach().cpu().float().contiguous().numpy().tobytes())
    return total.hexdigest()

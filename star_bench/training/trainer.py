"""`star-bench train`: epochs of rollouts, rewards and updates, under one recipe, exactly resumable.

Flow-GRPO (arXiv:2505.05470) with STAR's allocation (arXiv:2606.17979, as reconstructed here). The loop is the same for
SD3.5-Medium and for the miniature, for one process and for many (`accelerate launch`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from torch import Tensor

from star_bench.assets import model_files
from star_bench.catalogue import checkpoints, suites
from star_bench.errors import Incomplete, UsageError
from star_bench.files.atomic import to_json, write_atomically
from star_bench.files.digests import digest_of
from star_bench.reporting.masks.write import write_masks
from star_bench.runs.engines.base import Engine, Settings
from star_bench.runs.engines.local import LocalEngine
from star_bench.runs.environment import environment, packages
from star_bench.runs.log import LoggedProgress, recording
from star_bench.runs.notices import Notice, named
from star_bench.runs.progress import Progress, Silent
from star_bench.runs.run import choose_device
from star_bench.runs.store import locked
from star_bench.runs.workers import make_evaluator
from star_bench.training.actor import Actor
from star_bench.training.advantage import group_advantages, varies
from star_bench.training.allocation import AllocationSettings
from star_bench.training.blocks import check_blocks_in
from star_bench.training.card import make_card
from star_bench.training.collect import Collection, Collector
from star_bench.training.epoch_metrics import reward_metrics, update_metrics
from star_bench.training.evaluation import Evaluation
from star_bench.training.guards import check_epoch, check_model, fell
from star_bench.training.learner import Learner
from star_bench.training.masks import Shown, find_prompts, mask_sheets
from star_bench.training.output import CARD, write_lora, write_pipeline
from star_bench.training.policy import FullPolicy, LoraPolicy
from star_bench.training.precision import with_precision
from star_bench.training.recipe import Recipe
from star_bench.training.record import Record, flat
from star_bench.training.record import trackers as known_trackers
from star_bench.training.rewards import Asked, MakeJudges, Rewards, judges_of
from star_bench.training.rollout import Schedule, epoch_seed
from star_bench.training.state import State


class Trainer:
    """A training run in a folder: begun, or gone on with."""

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        *,
        device: str,
        bar: Progress,
        trackers: Sequence[str] = (),
        engine: Engine | None = None,
        begin: Callable[[], None] = lambda: None,
    ) -> None:
        """Finds everything and loads it, cheapest checks first. trackers: of accelerate's, "tensorboard" for one.
        engine: whose scoring stage judges rollouts, started; by default this process. Evaluations are judged here.
        begin: called in workers elsewhere before they load anything.

        Raises MissingWeights, UsageError or Refused for anything that is not there or does not fit, before anything is
        computed or written.
        """
        self.checkpoint = checkpoints.resolve(recipe.model)
        if self.checkpoint.lora:
            raise UsageError(f"{recipe.model} is a LoRA, and training adds its own", "train from its base")
        rewarding = [reward.suite for reward in recipe.rewards]
        cards = {name: suites.load(name) for name in (*rewarding, *recipe.evaluation.suites)}
        if choose_device(device) == "mps":
            raise UsageError("mps lacks the float64 that rewards are gathered in", "give --device cpu")
        self.local = model_files.locate(self.checkpoint)
        check_blocks_in(self.local.folder, recipe.allocation.blocks, recipe.model)
        self.accelerator = Accelerator(
            cpu=device == "cpu",
            log_with=known_trackers(trackers) or None,
            project_dir=str(out),
            # Other processes wait while one evaluates, which takes hours at the paper's scale.
            kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(hours=24))],
        )
        recipe = with_precision(recipe, self.checkpoint, self.accelerator.device.type)
        self.recipe, self.out = recipe, out
        self.is_main = self.accelerator.is_main_process
        self.bar: Progress = bar if self.is_main else Silent()
        processes, where = self.accelerator.num_processes, str(self.accelerator.device)
        if recipe.rollout.prompts % processes:
            raise UsageError(
                f"{recipe.rollout.prompts} prompts can't be shared by {processes} processes",
                "make rollout.prompts a multiple of the number of processes",
            )
        # One judge for rewards and evaluation: its weights are on the device once.
        judges = {name: make_evaluator(card, where) for name, card in cards.items()}
        with_regions = recipe.allocation.kind == "oracle"
        engine = engine or LocalEngine(Settings())
        if engine.remote and processes > 1 and engine.settings.address is None:
            raise UsageError(
                f"each of {processes} processes would start workers of its own",
                "start a cluster that they share, and give its --address",
            )
        if engine.remote:
            scoring_device = "cpu" if engine.settings.scoring.gpus == 0 else self.accelerator.device.type
            scorer = engine.scorer(
                MakeJudges(recipe.rewards, [cards[name] for name in rewarding], scoring_device, with_regions, begin)
            )
        else:
            mine = [judges[name] for name in rewarding]
            scorer = engine.scorer(lambda: judges_of(recipe.rewards, mine, find_regions=with_regions))
        self.rewards = Rewards(recipe.rewards, [judges[name] for name in rewarding], scorer)
        self.rewards.check_count(recipe.rollout.prompts)
        self.shown = self._shown()
        different = {prompt.text: prompt for prompts in self.rewards.prompts for prompt in prompts}
        shown = [one.prompt for one in self.shown]
        self.actor = Actor(recipe, self.checkpoint, self.local, device=where, prompts=[*different.values(), *shown])
        self.without_core = self.actor.without_core(list(different.values()))
        self.without_words = self.actor.without_words(self.without_core)
        self.different_prompts = len(different)
        self.collector = Collector(self.actor, self.rewards)
        self.learner = Learner(recipe, self.actor, self.accelerator)
        self.evaluation = Evaluation(
            recipe.evaluation,
            [judges[name] for name in recipe.evaluation.suites],
            actor=self.actor,
            checkpoint=self.checkpoint,
            local=self.local,
            folder=out / "evaluations",
        )
        asked = [[prompt.id, prompt.text] for prompts in self.rewards.prompts for prompt in prompts]
        self.record = Record(out, recipe, digest_of([recipe.digest(), self.local.digest, self.rewards.judges, asked]))
        self.epoch = 0
        self.history: list[float] = []
        """The mean reward of every epoch."""
        self.failed = 0
        self.untaught = 0
        """Epochs without an update."""
        self.sessions: list[dict[str, Any]] = []
        """From which epoch on, with which settings of those that may change, and what was installed."""

    def _shown(self) -> list[Shown]:
        """The fixed prompts whose maps are drawn; none where there is no map to draw."""
        allocation = AllocationSettings.of(self.recipe.allocation)
        if not (allocation.needs_attention or allocation.needs_masks):
            return []
        return find_prompts(self.recipe.masks.prompts, self.rewards.evaluators, self.bar.note)

    def train(self) -> dict[str, Any]:
        """All epochs that are not done yet. Returns the card.

        Raises Diverged, Incomplete, Locked, Refused for a folder that was begun otherwise, and what a disk raises.
        """
        with ExitStack() as held:
            if self.is_main:
                held.enter_context(locked(self.out))
                log = held.enter_context(recording(self.out, self.bar.note, recipe=self.recipe.name))
                self.bar = LoggedProgress(self.bar, log)
            is_new = self._begin()
            for notice in self.notices():
                if notice.kind == "no_core_word":
                    self.bar.note(notice.text)
            self.bar.start("training", self.recipe.epochs, self.epoch)
            if is_new:
                self._close_epoch({"epoch": 0})
            while self.epoch < self.recipe.epochs:
                self._close_epoch(self.run_epoch())
            return self._finish()

    def run_epoch(self) -> dict[str, Any]:
        """Rollouts, rewards and updates of the next epoch. Returns its metrics; nothing is written. Raises Diverged, and
        Incomplete where most rollouts got no reward."""
        recipe, accelerator = self.recipe, self.accelerator
        schedule, began = self.actor.schedule(self.epoch), time.monotonic()
        asked = self.rewards.prompts_of(seed=recipe.seed, epoch=self.epoch, count=recipe.rollout.prompts)
        with self.actor.text_encoders():
            self.actor.encode([one.prompt.text for one in asked])
        collection = self._collect(schedule, asked)
        rewards: Tensor = accelerator.gather(collection.rewards.to(accelerator.device)).cpu()
        mine = torch.tensor(
            [[collection.largest_weight, collection.unlocated, collection.broken]], device=accelerator.device
        )
        largest_weight, unlocated, broken = accelerator.gather(mine).cpu().unbind(1)
        check_model(broken=int(broken.sum()))
        self._check_judged(rewards)
        collected = time.monotonic()
        suite = torch.tensor([one.suite for one in asked]).repeat_interleave(recipe.rollout.group_size)
        advantages, teaches = self._advantages(rewards, suite)
        reports = self.learner.learn(schedule, collection.kept, advantages, teaches, epoch=self.epoch)
        updated = time.monotonic()
        self.epoch += 1
        metrics = {
            "epoch": self.epoch,
            **reward_metrics(rewards, suite, self.rewards.suites),
            "kept": float(teaches.double().mean()),
            **update_metrics(reports),
            "allocation/largest_weight": float(largest_weight.max()),
            "allocation/unlocated": int(unlocated.sum()),
            "allocation/without_core": len(self.actor.without_core([one.prompt for one in asked])),
            "allocation/without_words": len(self.actor.without_words([one.prompt for one in asked])),
            "trained_from_step": schedule.trained.start,
            "seconds/collect": round(collected - began, 3),
            "seconds/update": round(updated - collected, 3),
            "images_per_second": round(len(rewards) / (updated - began), 3),
        }
        self.history.append(metrics["reward/mean"])
        if not metrics["updates/taken"]:
            self._say_untaught(bool(teaches.any()))
        return metrics

    def _say_untaught(self, overflowed: bool) -> None:
        """Counts an epoch that changed nothing. Of the first one it is said, and of all in the end."""
        self.untaught += 1
        if self.untaught > 1:
            return
        why = "its gradients overflowed float16" if overflowed else "the rewards of every group are all equal"
        self.bar.note(f"nothing was learned in epoch {self.epoch}: {why}, so no update was made")

    def _collect(self, schedule: Schedule, asked: Sequence[Asked]) -> Collection:
        """This process's share of the prompts."""
        share = len(asked) // self.accelerator.num_processes
        first = share * self.accelerator.process_index
        seed = epoch_seed(self.recipe.seed, self.epoch)
        return self.collector.collect(
            schedule, asked[first : first + share], first_group=first, seed=seed, note=self.bar.note
        )

    def _check_judged(self, rewards: Tensor) -> None:
        failed = int((~rewards.isfinite()).sum())
        self.failed += failed
        if failed > len(rewards) / 2:
            raise Incomplete(
                f"{failed} of {len(rewards)} rollouts of epoch {self.epoch + 1} have no reward",
                "see the notes above for the judge's own words",
            )

    def _advantages(self, rewards: Tensor, suite: Tensor) -> tuple[Tensor, Tensor]:
        """(N,) advantages, NaN where there is no reward, and (N,) bool: whose group is not all equal. Each suite's rewards
        are normalised among themselves, since suites have scales of their own."""
        settings, size = self.recipe.advantage, self.recipe.rollout.group_size
        groups = torch.arange(len(rewards)) // size
        advantages = torch.full((len(rewards),), torch.nan)
        teaches = torch.zeros(len(rewards), dtype=torch.bool)
        for place in suite.unique():
            mine = (suite == place) & rewards.isfinite()
            if mine.any():
                advantages[mine] = group_advantages(rewards[mine], groups[mine], std=settings.std, clamp=settings.clamp)
                teaches[mine] = varies(rewards[mine], groups[mine])
        return advantages, teaches

    def _begin(self) -> bool:
        """Goes on from the folder's newest state. Returns whether there was none."""
        if self.is_main:
            self.record.check()
            self.rewards.check()
        self.accelerator.wait_for_everyone()
        state = self.record.newest(self.bar.note)
        if state is not None:
            self.learner.restore(state.tensors, state.numbers)
            self.epoch, self.failed, self.untaught = state.epoch, state.numbers["failed"], state.numbers["untaught"]
            self.sessions = list(state.numbers["sessions"])
            self.history = list(state.numbers["rewards"])
            self.bar.note(f"going on after epoch {self.epoch}")
        if self.epoch < self.recipe.epochs:
            made_with = {**environment(self.actor.device), "packages": packages()}
            self.sessions.append({"from_epoch": self.epoch + 1, **self.recipe.costs(), "environment": made_with})
        self.accelerator.wait_for_everyone()  # all have read before one writes
        if self.is_main:
            self.record.begin(state)
        if self.accelerator.log_with:
            self.accelerator.init_trackers("star-bench", config=flat(self.recipe.model_dump(mode="json")))
        return state is None

    def _close_epoch(self, metrics: dict[str, Any]) -> None:
        """Evaluates where it is due, writes the epoch's line, and then its masks, weights and state where they are due.

        Raises Diverged after the line and before the state, which stays the last good one.
        """
        last = self.epoch == self.recipe.epochs
        if self.evaluation.is_due(self.epoch) or last:
            average = self.learner.average()
            with self.actor.policy.published(average), self.actor.text_encoders():
                if self.is_main:
                    metrics |= self.evaluation.run(self.epoch, average, self.bar)
            self.bar.start("training", self.recipe.epochs, self.epoch)  # below the evaluation's bars again
        else:
            self.bar.advance(1)
        if self.is_main:
            self.record.add(metrics)
        self.accelerator.log({name: v for name, v in metrics.items() if v is not None}, step=self.epoch)
        check_epoch(self.recipe.guards, kl=metrics.get("kl") or 0.0, rewards=self.history)
        if self.shown and (self.epoch % self.recipe.masks.every == 0 or last):
            self._draw_masks()
        if self.epoch % self.recipe.save_every == 0 or last:
            tensors = self.learner.tensors()
            if self.is_main:
                said = {"rewards": self.history, "failed": self.failed, "untaught": self.untaught}
                numbers = {**self.learner.numbers(), **said, "sessions": self.sessions}
                self.record.save(State(self.epoch, tensors, numbers))
            self._write_weights()
        self.accelerator.wait_for_everyone()

    def _write_weights(self) -> dict[str, str]:
        """The average, by the first process. Returns what the card says of it."""
        policy, steps = self.actor.policy, self.recipe.evaluation.steps
        with policy.published(self.learner.average()):
            if not self.is_main:
                return {}
            if isinstance(policy, FullPolicy):
                local = self.local.folder
                return {"transformer_digest": write_pipeline(self.out, policy, self.checkpoint, local, steps=steps)}
            assert isinstance(policy, LoraPolicy)
            return {"lora_sha256": write_lora(self.out, policy, self.checkpoint, steps=steps)}

    def _draw_masks(self) -> None:
        """Of the same prompts, noise and steps in every epoch, so that epochs can be compared. All processes draw
        them, since sharded weights need all of them, and the first one writes."""
        with self.learner.ema.applied(), self.actor.text_encoders():
            sheets = mask_sheets(
                self.actor.policy,
                self.actor.sampler,
                self.shown,
                allocation=self.recipe.allocation,
                schedule=self.actor.schedule(0),
                rollouts=self.recipe.masks.rollouts,
                seed=self.recipe.seed,
                capture=self.actor.capture,
                about={"epoch": str(self.epoch)},
            )
        if self.is_main:
            write_masks(sheets, self.out / "masks" / f"epoch-{self.epoch:06d}")

    def notices(self) -> list[Notice]:
        """What a reader must know of the training beside its numbers."""
        out, of = [], f"of {self.different_prompts} training prompts"
        if self.untaught:
            said = f"NOTHING LEARNED: nothing was learned in {self.untaught} of {self.recipe.epochs} epochs"
            out.append(Notice("nothing_learned", said))
        if fall := fell(self.recipe.guards, self.history):
            out.append(Notice("reward_fell", fall))
        if self.without_core:
            ids = tuple(prompt.id for prompt in self.without_core)
            said = (
                f"NO CORE WORD: the model reads no core word of {len(ids)} {of} ({named(ids)}), and their maps start "
            )
            said += (
                f"from all tokens that it reads; of {len(self.without_words)} it reads none, and their maps are ones"
            )
            out.append(Notice("no_core_word", said, ids))
        return out

    def _finish(self) -> dict[str, Any]:
        """Writes the weights and, last, the card: where it is, the training is whole."""
        card = make_card(
            self.recipe,
            self.checkpoint,
            self.local,
            self.rewards,
            rows=self.record.rows(),
            failed=self.failed,
            notices=self.notices(),
            untaught=self.untaught,
            sessions=self.sessions,
            processes=self.accelerator.num_processes,
            device=self.actor.device,
        )
        card |= self._write_weights()
        if self.is_main:
            write_atomically(self.out / CARD, to_json(card))
        self.accelerator.end_training()
        return card

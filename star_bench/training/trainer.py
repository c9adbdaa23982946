"""`star-bench train`: epochs of rollouts, rewards and updates, under one recipe, exactly resumable.

Flow-GRPO (arXiv:2505.05470) with STAR's allocation (arXiv:2606.17979, as reconstructed here). The loop is the same for
SD3.5-Medium and for the miniature, for one process and for many (`accelerate launch`).
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
import yaml
from accelerate import Accelerator, InitProcessGroupKwargs
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from torch import Tensor

from star_bench import checkpoints, licences, model_files, suites
from star_bench.cards import did_you_mean
from star_bench.errors import Incomplete, Refused, UsageError
from star_bench.files import to_json, write_atomically
from star_bench.generation.pipeline import load
from star_bench.generation.sampler import Sampler
from star_bench.protocol import Protocol, digest_of
from star_bench.runs.execute import Progress
from star_bench.runs.plan import merge_protocol
from star_bench.runs.run import choose_dtype, environment, make_evaluator
from star_bench.runs.store import locked, read_rows
from star_bench.suites import GenerationDefaults
from star_bench.training import state as states
from star_bench.training.advantage import group_advantages, varies
from star_bench.training.allocation import AllocationSettings
from star_bench.training.attention import AttentionCapture
from star_bench.training.collect import Collector
from star_bench.training.ema import Ema
from star_bench.training.evaluation import Evaluation
from star_bench.training.experience import Kept
from star_bench.training.guards import check_epoch
from star_bench.training.output import CARD, METRICS, RECIPE, write_lora
from star_bench.training.policy import Policy
from star_bench.training.recipe import Recipe
from star_bench.training.rewards import Asked, Rewards
from star_bench.training.rollout import Schedule, epoch_seed
from star_bench.training.sde import sigmas
from star_bench.training.token_positions import TokenPositions
from star_bench.training.update import Updater, UpdateReport
from star_bench.training.velocity import Conditioning
from star_bench.training.words import CoreTokens


class Silent:
    """Progress of the processes beside the first, which speaks for all."""

    def start(self, title: str, total: int, done: int) -> None: ...
    def advance(self, count: int) -> None: ...
    def note(self, message: str) -> None: ...


class Trainer:
    """A training run in a folder: begun, or gone on with."""

    def __init__(self, recipe: Recipe, out: Path, *, device: str, bar: Progress, trackers: Sequence[str] = ()) -> None:
        """Finds everything and loads it, cheapest checks first. trackers: of accelerate's, "tensorboard" for one.

        Raises MissingWeights, UsageError or Refused for anything that is not there or does not fit, before anything is
        computed or written.
        """
        self.recipe, self.out = recipe, out
        self.checkpoint = checkpoints.resolve(recipe.model)
        if self.checkpoint.lora:
            raise UsageError(f"{recipe.model} is a LoRA, and training adds its own", "train from its base")
        rewarding = [reward.suite for reward in recipe.rewards]
        cards = {name: suites.load(name) for name in (*rewarding, *recipe.evaluation.suites)}
        self.local = model_files.locate(self.checkpoint)
        self.accelerator = Accelerator(
            cpu=device == "cpu",
            log_with=[_available(name) for name in trackers] or None,
            project_dir=str(out),
            # Other processes wait while one evaluates, which takes hours at the paper's scale.
            kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(hours=24))],
        )
        self.bar: Progress = bar if self.accelerator.is_main_process else Silent()
        self.device = str(self.accelerator.device)
        if recipe.rollout.prompts % self.accelerator.num_processes:
            raise UsageError(
                f"{recipe.rollout.prompts} prompts can't be shared by {self.accelerator.num_processes} processes",
                "make rollout.prompts a multiple of the number of processes",
            )
        asked = recipe.allocation
        kind = self.allocation = AllocationSettings(asked.kind, asked.mix, asked.cap, asked.smoothing)
        # One judge for rewards and evaluation: its weights are on the device once.
        judges = {name: make_evaluator(card, self.device) for name, card in cards.items()}
        self.rewards = Rewards(recipe.rewards, [judges[name] for name in rewarding], find_regions=kind.needs_masks)
        self.dtype = self._dtype()
        self.pipe: Any = load(self.local, dtype=self.dtype, device=self.device)
        self.protocol = self._protocol()
        self.sampler = Sampler(self.pipe, self.protocol, cached_prompts=recipe.compute.cached_prompts)
        with self.text_encoders():
            against = self.sampler.encode([self.protocol.negative_prompt])[0]
        self.policy = Policy(
            self.pipe,
            rank=recipe.lora.rank,
            alpha=recipe.lora.alpha,
            seed=recipe.seed,
            guidance_scale=recipe.rollout.guidance_scale,
            against=against,
        )
        if recipe.compute.gradient_checkpointing:
            self.pipe.transformer.enable_gradient_checkpointing()
        self.sigmas = sigmas(self.pipe.scheduler, recipe.rollout.steps)
        self.capture = (
            AttentionCapture(self.pipe.transformer, recipe.allocation.blocks) if kind.needs_attention else None
        )
        self.core = self._core() if kind.needs_attention else None
        if recipe.compute.compile:
            self.pipe.transformer.compile()
        self._make_learner()
        self.evaluation = Evaluation(
            recipe.evaluation,
            [judges[name] for name in recipe.evaluation.suites],
            pipe=self.pipe,
            checkpoint=self.checkpoint,
            local=self.local,
            guidance_scale=recipe.rollout.guidance_scale,
            dtype=self.dtype,
            device=self.device,
            folder=out / "evaluations",
        )
        self.epoch = 0
        self.history: list[float] = []
        self.failed = 0

    def _dtype(self) -> str:
        asked = self.recipe.compute.precision
        return choose_dtype("auto" if asked == "checkpoint" else asked, self.checkpoint, self.device.split(":")[0])

    def _protocol(self) -> Protocol:
        """Of the rollouts: the checkpoint's size and text length, the recipe's steps and guidance."""
        rollout = self.recipe.rollout
        asked = GenerationDefaults(
            samples=rollout.group_size, steps=rollout.steps, guidance_scale=rollout.guidance_scale
        )
        return merge_protocol(
            asked,
            self.checkpoint.generation,
            seed=self.recipe.seed,
            dtype=self.dtype,
            device=self.device.split(":")[0],
            where=self.checkpoint.name,
        )

    def _core(self) -> CoreTokens:
        tokens = TokenPositions(self.pipe, self.protocol.max_sequence_length)
        core = CoreTokens(tokens, part=self.recipe.allocation.tokens, every_token=self.allocation.every_token)
        for prompts in self.rewards.prompts:  # every prompt that could be asked, before anything is computed
            for prompt in prompts:
                core.locate(prompt)
        return core

    def _make_learner(self) -> None:
        recipe, settings = self.recipe, self.recipe.optimiser
        self.names = list(self.policy.named_parameters)
        self.optimiser = torch.optim.AdamW(
            self.policy.parameters,
            lr=settings.learning_rate,
            betas=settings.betas,
            eps=settings.epsilon,
            weight_decay=settings.weight_decay,
        )
        self.ema = Ema(self.policy.named_parameters, decay=recipe.ema.decay, every=recipe.ema.every)
        self.updater = Updater(
            self.policy,
            self.optimiser,
            self.accelerator,
            objective=recipe.objective,
            ratio="scalar" if self.allocation.scalar_ratio else recipe.objective.ratio,
            guards=recipe.guards,
            max_grad_norm=settings.max_grad_norm,
            batch_size=recipe.rollout.batch_size,
            encode=self.encode,
        )
        self.collector = Collector(
            self.policy,
            self.sampler,
            self.rewards,
            allocation=self.allocation,
            core=self.core,
            capture=self.capture,
            batch_size=recipe.rollout.batch_size,
            group_size=recipe.rollout.group_size,
            keep_means=recipe.objective.guard,
            shared_start=recipe.rollout.shared_start,
            encode=self.encode,
        )

    @contextmanager
    def text_encoders(self) -> Iterator[None]:
        """Within, prompts can be encoded; outside, the text encoders may wait in main memory."""
        if not self.recipe.compute.offload_text_encoders:
            yield
            return
        encoders = [self.pipe.text_encoder, self.pipe.text_encoder_2, self.pipe.text_encoder_3]
        for encoder in filter(None, encoders):
            encoder.to(self.device)
        try:
            yield
        finally:
            for encoder in filter(None, encoders):
                encoder.to("cpu")
            if self.device.startswith("cuda"):
                torch.cuda.empty_cache()

    def encode(self, texts: Sequence[str]) -> Conditioning:
        """Of prompts that this epoch asks for, which are encoded when it begins."""
        return Conditioning.of(self.sampler.encode(texts))

    def schedule(self, epoch: int) -> Schedule:
        """Of an epoch: which of its steps are trained is a function of seed and epoch."""
        rollout = self.recipe.rollout
        if rollout.window is None:
            trained = range(rollout.trained_steps)
        else:
            last = rollout.steps - rollout.window
            low, high = (min(last, int(rollout.steps * part)) for part in (rollout.window_from, rollout.window_to))
            start = int(np.random.default_rng([self.recipe.seed, epoch, 1]).integers(low, high + 1))
            trained = range(start, start + rollout.window)
        return Schedule(self.sigmas, trained, rollout.noise_level, rollout.variant, rollout.window is not None)

    # The loop.

    def train(self) -> dict[str, Any]:
        """All epochs that are not done yet. Returns the card. Raises Diverged, Incomplete, Locked and what a disk raises."""
        is_main = self.accelerator.is_main_process
        with locked(self.out) if is_main else nullcontext():
            is_new = self._begin()
            self.bar.start("training", self.recipe.epochs, self.epoch)
            if is_new:
                self._evaluate_and_save({"epoch": 0})
            while self.epoch < self.recipe.epochs:
                metrics = self._epoch()
                self.epoch += 1
                self._evaluate_and_save(metrics)
                self.bar.advance(1)
                check_epoch(self.recipe.guards, kl=metrics["kl"] or 0.0, rewards=self.history)
            card = self._finish()
        self.rewards.close()
        return card

    def _epoch(self) -> dict[str, Any]:
        recipe, epoch = self.recipe, self.epoch
        schedule = self.schedule(epoch)
        began = time.monotonic()
        asked = self.rewards.prompts_of(seed=recipe.seed, epoch=epoch, count=recipe.rollout.prompts)
        with self.text_encoders():
            self.encode([one.prompt.text for one in asked])
        share = len(asked) // self.accelerator.num_processes
        first = share * self.accelerator.process_index
        collection = self.collector.collect(
            schedule,
            asked[first : first + share],
            first_group=first,
            seed=epoch_seed(recipe.seed, epoch),
            note=self.bar.note,
            advance=lambda _count: None,
        )
        collected = time.monotonic()
        rewards: Tensor = self.accelerator.gather(collection.rewards.to(self.accelerator.device)).cpu()
        advantages, teaches = self._advantages(asked, rewards)
        reports = self._updates(schedule, collection.kept, advantages, teaches)
        updated = time.monotonic()
        judged = rewards[rewards.isfinite()]
        self.failed += len(rewards) - len(judged)
        if len(judged) < len(rewards) / 2:
            raise Incomplete(
                f"{len(rewards) - len(judged)} of {len(rewards)} rollouts of epoch {epoch} have no reward",
                "see the notes above for the judge's own words",
            )
        self.history.append(float(judged.mean()))
        return {
            "epoch": epoch + 1,
            **self._reward_metrics(asked, rewards),
            "kept": float(teaches.double().mean()),
            **_update_metrics(reports),
            "allocation/largest_weight": collection.largest_weight,
            "allocation/unlocated": collection.unlocated,
            "trained_from_step": schedule.trained.start,
            "seconds/collect": round(collected - began, 3),
            "seconds/update": round(updated - collected, 3),
            "images_per_second": round(len(rewards) / (updated - began), 3),
        }

    def _advantages(self, asked: Sequence[Asked], rewards: Tensor) -> tuple[Tensor, Tensor]:
        """(N,) advantages, NaN where there is no reward, and (N,) bool: whose group is not all equal. Each suite's rewards
        are normalised among themselves, since suites have scales of their own."""
        recipe = self.recipe
        size = recipe.rollout.group_size
        groups = torch.arange(len(asked)).repeat_interleave(size)
        suite = torch.tensor([one.suite for one in asked]).repeat_interleave(size)
        advantages = torch.full((len(rewards),), torch.nan)
        teaches = torch.zeros(len(rewards), dtype=torch.bool)
        for place in range(len(recipe.rewards)):
            mine = (suite == place) & rewards.isfinite()
            if not mine.any():
                continue
            advantages[mine] = group_advantages(
                rewards[mine], groups[mine], std=recipe.advantage.std, clamp=recipe.advantage.clamp
            )
            teaches[mine] = varies(rewards[mine], groups[mine])
        return advantages, teaches

    def _updates(
        self, schedule: Schedule, kept: Sequence[Kept], advantages: Tensor, teaches: Tensor
    ) -> list[UpdateReport]:
        """The epoch's experience in equal shares, drawn by seed and epoch; the first update is on-policy."""
        numbers = teaches.nonzero().flatten().numpy()
        order = np.random.default_rng([self.recipe.seed, self.epoch, 2]).permutation(numbers)
        by_number = {one.number: one for one in kept}
        reports = []
        for chosen in np.array_split(order, self.recipe.optimiser.updates_per_epoch):
            if not len(chosen):
                continue
            mine = [by_number[number] for number in chosen.tolist() if number in by_number]
            of_mine = advantages[[one.number for one in mine]]
            reports.append(self.updater.step(schedule, mine, of_mine, total=len(chosen)))
            self.ema.update()
        return reports

    def _reward_metrics(self, asked: Sequence[Asked], rewards: Tensor) -> dict[str, Any]:
        table = rewards.view(len(asked), -1)
        failed = int((~rewards.isfinite()).sum())
        out: dict[str, Any] = {
            "reward/mean": self.history[-1],
            "reward/std": float(rewards[rewards.isfinite()].std(correction=0)),
            "reward/failed": failed,
        }
        for place, name in enumerate(self.rewards.suites):
            rows = [i for i, one in enumerate(asked) if one.suite == place]
            values = table[rows]
            out[f"reward/{name}"] = float(values[values.isfinite()].mean()) if values.isfinite().any() else None
        return out

    # What is kept.

    def _begin(self) -> bool:
        """Checks the folder against the recipe and goes on from its newest state. Returns whether there was none."""
        file = self.out / RECIPE
        if self.accelerator.is_main_process:
            if file.is_file():
                before = Recipe.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
                if before.digest() != self.recipe.digest():
                    raise Refused(
                        f"{self.out} was begun with other settings",
                        "give another --out, or the settings in its recipe.yaml",
                    )
            self.rewards.check()
            write_atomically(file, yaml.safe_dump(self.recipe.model_dump(mode="json"), sort_keys=False).encode())
        self.accelerator.wait_for_everyone()
        state = states.latest(self.out / "state", self.bar.note)
        if state is not None:
            self._restore(state)
            self.bar.note(f"going on after epoch {self.epoch}")
        if self.accelerator.is_main_process:
            # Lines of epochs after the state come again; without a state, all do.
            rows = read_rows(self.out / METRICS) if state is not None else []
            lines = [json.dumps(row) + "\n" for row in rows if row["epoch"] <= self.epoch]
            write_atomically(self.out / METRICS, "".join(lines).encode())
        if self.accelerator.log_with:
            self.accelerator.init_trackers("star-bench", config=_flat(self.recipe.model_dump(mode="json")))
        return state is None

    def _evaluate_and_save(self, metrics: dict[str, Any]) -> None:
        """Evaluation where it is due, the epoch's line of metrics, and the state where it is due: in this order, so that a
        state on disk has all its lines."""
        last = self.recipe.epochs
        due = self.evaluation.is_due(self.epoch, last)
        if due and self.accelerator.is_main_process:
            with self.ema.applied(), self.text_encoders():
                metrics |= self.evaluation.run(self.epoch, self.ema.average, self.bar)
        if due:
            # The bar's current task is the evaluation's; back to the epochs'.
            self.bar.start("training", self.recipe.epochs, self.epoch)
        if self.accelerator.is_main_process:
            with (self.out / METRICS).open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(metrics, allow_nan=False) + "\n")
        self.accelerator.log({k: v for k, v in metrics.items() if v is not None}, step=self.epoch)
        if self.epoch % self.recipe.save_every == 0 or self.epoch == last:
            if self.accelerator.is_main_process:
                states.save(self.out / "state", self._state())
                with self.ema.applied():
                    write_lora(self.out, self.policy, self.checkpoint)
            self.accelerator.wait_for_everyone()

    def _state(self) -> states.State:
        tensors = {f"lora/{name}": p.detach().cpu().clone() for name, p in self.policy.named_parameters.items()}
        tensors |= {f"ema/{name}": t.cpu().clone() for name, t in self.ema.average.items()}
        moments = states.optimiser_tensors(self.optimiser, self.names)
        tensors |= {f"optimiser/{name}": tensor for name, tensor in moments.items()}
        numbers = {
            "identity": self._identity,
            "ema_updates": self.ema.updates,
            "scaler": self.updater.scaler.state_dict(),
            "rewards": self.history,
            "failed": self.failed,
        }
        return states.State(self.epoch, tensors, numbers)

    @property
    def _identity(self) -> str:
        """Of all that decides the next epoch beside the state: settings, base, judges and training prompts."""
        asked = [[prompt.id, prompt.text] for prompts in self.rewards.prompts for prompt in prompts]
        return digest_of([self.recipe.digest(), self.local.digest, self.rewards.judges, asked])

    def _restore(self, state: states.State) -> None:
        """Raises Refused for a state of another base, judge or prompt file."""
        if state.numbers["identity"] != self._identity:
            raise Refused(
                f"the base model, a judge or the training prompts are not those that {self.out} was begun with",
                "put them back, or give another --out",
            )

        def part(name: str) -> dict[str, Tensor]:
            prefix = f"{name}/"
            return {key.removeprefix(prefix): t for key, t in state.tensors.items() if key.startswith(prefix)}

        with torch.no_grad():
            for name, parameter in self.policy.named_parameters.items():
                parameter.copy_(part("lora")[name])
        for name, tensor in part("ema").items():
            self.ema.average[name].copy_(tensor)
        states.restore_optimiser(self.optimiser, self.names, part("optimiser"))
        self.ema.updates = state.numbers["ema_updates"]
        self.updater.scaler.load_state_dict(state.numbers["scaler"])
        self.history, self.failed = list(state.numbers["rewards"]), state.numbers["failed"]
        self.epoch = state.epoch

    def _finish(self) -> dict[str, Any]:
        """Writes the weights and, last, the card: where it is, the training is whole."""
        card = self._card()
        if self.accelerator.is_main_process:
            with self.ema.applied():
                card["lora_sha256"] = write_lora(self.out, self.policy, self.checkpoint)
            write_atomically(self.out / CARD, to_json(card))
        self.accelerator.end_training()
        return card

    def _card(self) -> dict[str, Any]:
        """What was trained, on what, from what and with what."""
        recipe, rewards = self.recipe, self.rewards
        evaluated = [row for row in read_rows(self.out / METRICS) if any(key.startswith("eval/") for key in row)]
        sources = [
            {
                "suite": evaluator.card.name,
                "metric": evaluator.metric.identity,
                "judges": judges,
                "different_prompts": len({prompt.text for prompt in prompts}),
                "training_file": training.model_dump(mode="json", include={"path", "repository", "digest", "licence"}),
            }
            for evaluator, judges, prompts in zip(rewards.evaluators, rewards.judges, rewards.prompts, strict=True)
            if (training := evaluator.card.prompts.training) is not None
        ]
        return {
            "schema": 1,
            "recipe": recipe.name,
            "title": recipe.title,
            "method": "STAR as reconstructed here" if recipe.allocation.kind == "star" else recipe.allocation.kind,
            "seed": recipe.seed,
            "epochs": self.epoch,
            "settings": recipe.model_dump(mode="json"),
            "settings_digest": recipe.digest(),
            "base": {"name": self.checkpoint.name, "digest": self.local.digest, "commit": self.local.revision},
            "processes": self.accelerator.num_processes,
            "rewards": sources,
            "rollouts_without_reward": self.failed,
            "first": evaluated[0] if evaluated else None,
            "last": evaluated[-1] if evaluated else None,
            "environment": environment(self.device),
            "licences": [dataclasses.asdict(part) for part in licences.of_checkpoint(self.checkpoint)],
        }


def _available(tracker: str) -> str:
    """Raises UsageError for a tracker that accelerate does not know, or whose package is not installed."""
    if tracker not in LOGGER_TYPE_TO_CLASS:
        raise UsageError(f"there is no tracker {tracker!r}", did_you_mean(tracker, LOGGER_TYPE_TO_CLASS))
    if tracker not in {str(found) for found in get_available_trackers()}:
        raise UsageError(f"the tracker {tracker!r} is not installed", f"run `pip install {tracker}`")
    return tracker


def _update_metrics(reports: Sequence[UpdateReport]) -> dict[str, Any]:
    """Of an epoch's updates: the means, and what the first, on-policy one and the last one say of their ratios."""
    if not reports:
        names = ("loss/policy", "kl", "ratio/first_log", "ratio/last_log", "clip_fraction", "grad_norm")
        return dict.fromkeys(names)
    return {
        "loss/policy": fmean(r.policy_loss for r in reports),
        "kl": fmean(r.kl for r in reports),
        "ratio/first_log": reports[0].log_ratio,
        "ratio/last_log": reports[-1].log_ratio,
        "clip_fraction": reports[-1].clipped,
        "grad_norm": fmean(r.grad_norm for r in reports),
    }


def _flat(data: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as "section/key": what trackers take."""
    out: dict[str, str] = {}
    for key, value in data.items():
        out |= _flat(value, f"{prefix}{key}/") if isinstance(value, dict) else {f"{prefix}{key}": str(value)}
    return out

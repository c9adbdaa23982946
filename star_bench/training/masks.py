"""Allocation maps of any SD3 checkpoint, from rollouts as training makes them, ready to be drawn: where the advantage
would go, at every step of a few prompts' rollouts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusion3Pipeline

from star_bench.assets import model_files
from star_bench.assets.model_files import LocalCheckpoint
from star_bench.catalogue import checkpoints
from star_bench.catalogue.checkpoints import Checkpoint
from star_bench.catalogue.protocol import GenerationSettings, Protocol
from star_bench.errors import Incomplete, MissingWeights, Refused, UsageError
from star_bench.evaluators.base import Evaluator, Prompt
from star_bench.generation.noise import noise_seed
from star_bench.generation.pipeline import load
from star_bench.generation.sampler import Sampler, to_uint8
from star_bench.reporting.masks.sheet import COMBINED, MaskRow, MaskSheet
from star_bench.runs.plan import merge_protocol
from star_bench.runs.run import choose_device, choose_dtype
from star_bench.training.allocation import KINDS, AllocationSettings, Evidence, allocate
from star_bench.training.attention import AttentionCapture
from star_bench.training.collect import SHUFFLE
from star_bench.training.recipe import AllocationSettings as AskedAllocation
from star_bench.training.rollout import Rollout, Schedule, Trajectory, roll_out
from star_bench.training.token_positions import TokenPositions
from star_bench.training.velocity import Conditioning, GuidedVelocity
from star_bench.training.words import CoreTokens


@dataclass(frozen=True)
class Loaded:
    """A checkpoint, ready to roll out; its LoRA is on it."""

    checkpoint: Checkpoint
    local: LocalCheckpoint
    sampler: Sampler
    policy: GuidedVelocity

    @property
    def blocks(self) -> int:
        """How many joint blocks its transformer has."""
        return len(self.policy.transformer.transformer_blocks)


def load_policy(
    model: str, asked: GenerationSettings, *, base: str | None = None, seed: int = 0, device: str = "auto"
) -> Loaded:
    """asked: what goes before the checkpoint's own generation defaults. Raises what finding and loading a checkpoint
    raises, and Refused for one that is not SD3's."""
    checkpoint = checkpoints.resolve(model, base=base)
    local = model_files.locate(checkpoint)
    device = choose_device(device)
    kind = device.split(":")[0]
    dtype = choose_dtype("auto", checkpoint, kind)
    protocol = merge_protocol(asked, checkpoint.generation, seed=seed, dtype=dtype, device=kind, where=checkpoint.name)
    return load_protocol(checkpoint, local, protocol, device=device)


def load_protocol(
    checkpoint: Checkpoint, local: LocalCheckpoint, protocol: Protocol, *, device: str = "auto"
) -> Loaded:
    """A checkpoint that rolls out under a protocol. Raises what `load_policy` raises."""
    pipe: Any = load(local, dtype=protocol.dtype, device=choose_device(device))
    if not isinstance(pipe, StableDiffusion3Pipeline):
        raise Refused(
            f"{type(pipe).__name__} has no attention between text and image in joint blocks",
            "name a Stable Diffusion 3 or 3.5 checkpoint",
        )
    sampler = Sampler(pipe, protocol)
    against = sampler.encode([protocol.negative_prompt])[0]
    policy = GuidedVelocity(pipe.transformer, guidance_scale=protocol.guidance_scale, against=against)
    return Loaded(checkpoint, local, sampler, policy)


@dataclass(frozen=True)
class Shown:
    """A prompt whose maps are drawn. judge: of the suite that it is from, where that can say what is where."""

    prompt: Prompt
    judge: Evaluator | None = None

    @property
    def truth(self) -> str:
        """What the outline of its pictures is, in words."""
        return f"where the judge of {self.judge.card.name} found it" if self.judge else "not known"


def find_prompts(
    texts: Sequence[str], evaluators: Sequence[Evaluator], note: Callable[[str], None] = lambda _message: None
) -> list[Shown]:
    """The texts as test or training prompts of the first suite that has them, whose metadata then decide the core words;
    else as free ones. note: told of prompts and judges that are not on this machine, without which it goes on."""
    known: dict[str, Shown] = {}
    for evaluator in evaluators:
        reads = [evaluator.prompts]
        if evaluator.card.prompts.training is not None:
            reads.append(evaluator.training_prompts)
        for read in reads:
            try:
                found = {prompt.text: prompt for prompt in read() if prompt.text in texts and prompt.text not in known}
            except MissingWeights as error:
                note(f"no prompt is looked for there: {error}")
                continue
            judge = _finder(evaluator, note) if found else None
            known |= {text: Shown(prompt, judge) for text, prompt in found.items()}
    return [known.get(text) or Shown(Prompt(text, text)) for text in texts]


def _finder(evaluator: Evaluator, note: Callable[[str], None]) -> Evaluator | None:
    """The evaluator, if it looks for regions and its judges are here."""
    if type(evaluator).regions is Evaluator.regions:
        return None
    try:
        evaluator.judges()
    except MissingWeights as error:
        note(f"the truth is not outlined: {error}")
        return None
    return evaluator


def check_kind(allocation: AskedAllocation) -> None:
    """Raises UsageError for one whose map there is no use in drawing."""
    kind = KINDS[allocation.kind]
    if not (kind.needs_attention or kind.needs_masks):
        raise UsageError(f"the map of the allocation {allocation.kind!r} is 1 everywhere", "set allocation.kind=star")


def mask_sheets(
    policy: GuidedVelocity,
    sampler: Sampler,
    shown: Sequence[Shown],
    *,
    allocation: AskedAllocation,
    schedule: Schedule,
    rollouts: int,
    seed: int,
    capture: AttentionCapture | None = None,
    about: Mapping[str, str] | None = None,
) -> list[MaskSheet]:
    """A sheet per prompt: the combined map, and of kinds that read words, each word's own (the same allocation with only
    that word), at every step of `rollouts` rollouts.

    schedule: of the training; steps that it doesn't train are recorded too, so "joint" and "time-averaged" are over all
    steps here. seed: of the noise, as an epoch's. capture: one that is on the blocks already; by default one is made
    and removed. about: more lines for the settings that stand with the pictures.

    Raises UsageError for a block that isn't there, a prompt without core words, or an oracle's map of a prompt that no
    judge knows, and Incomplete where a rollout ends in no picture.
    """
    settings = AllocationSettings.of(allocation)
    core = None
    if settings.needs_attention:
        tokens = TokenPositions(sampler.pipe, sampler.protocol.max_sequence_length)
        core = CoreTokens(tokens, part=allocation.tokens, every_token=settings.every_token)
    for one in shown:
        if core is not None:
            core.locate(one.prompt)
        if settings.needs_masks and one.judge is None:
            raise UsageError(
                f"no judge here finds what {one.prompt.text!r} names, which an oracle's map is made of",
                "give a prompt of a suite whose judge detects objects, as GenEval's does, and that suite",
            )
    said = {**(about or {}), **_said(allocation, schedule, policy, seed)}
    own = AttentionCapture(policy.transformer, allocation.blocks) if core is not None and capture is None else None
    maker = _Maker(policy, sampler, settings, core, capture or own, schedule, rollouts, seed)
    try:
        return [maker.sheet(one, said) for one in shown]
    finally:
        if own is not None:
            own.remove()


def settings_of(allocation: AskedAllocation) -> dict[str, str]:
    """What an allocation is, in words."""
    return {
        "allocation": allocation.kind,
        "blocks": ", ".join(map(str, allocation.blocks)),
        "text tokens": {"clip": "CLIP's", "t5": "T5's", "both": "CLIP's and T5's"}[allocation.tokens],
        "lambda": f"{allocation.mix:g}",
        "cap": f"{allocation.cap:g}",
        "smoothing": f"sigma {allocation.smoothing:g}, in image tokens",
    }


def _said(allocation: AskedAllocation, schedule: Schedule, policy: GuidedVelocity, seed: int) -> dict[str, str]:
    """What made the maps, in words."""
    first, last = schedule.trained.start + 1, schedule.trained.stop
    noisy = f"at steps {first} to {last} of {schedule.steps}" if schedule.ode_elsewhere else "at every step"
    return {
        **settings_of(allocation),
        "noise": f"{schedule.noise_level:g} ({schedule.variant}), {noisy}",
        "guidance": f"{policy.guidance_scale:g}",
        "seed": str(seed),
    }


@dataclass(frozen=True)
class _Maker:
    """What all sheets have in common."""

    policy: GuidedVelocity
    sampler: Sampler
    settings: AllocationSettings
    core: CoreTokens | None
    capture: AttentionCapture | None
    schedule: Schedule
    rollouts: int
    seed: int

    def sheet(self, one: Shown, said: Mapping[str, str]) -> MaskSheet:
        prompts = [one.prompt] * self.rollouts
        trajectory = roll_out(
            self.policy,
            self.schedule,
            Conditioning.of(self.sampler.encode([prompt.text for prompt in prompts])),
            [Rollout(prompt, 0, k) for k, prompt in enumerate(prompts)],
            self.sampler.latent_shape,
            seed=self.seed,
            capture=self.capture,
            positions=None if self.core is None else self.core.positions(prompts),
            record_all=True,
        )
        pictures = self._pictures(one.prompt, trajectory)
        truths: Sequence[np.ndarray | None] = [None] * self.rollouts
        if one.judge is not None:
            truths = one.judge.regions(pictures, prompts)
        maps = {
            name: self._maps(one.prompt, trajectory, words, truths) for name, words in self._words(one.prompt).items()
        }
        rows = [
            MaskRow(picture, {name: weights[k] for name, weights in maps.items()}, truth)
            for k, (picture, truth) in enumerate(zip(pictures, truths, strict=True))
        ]
        own = {"truth": one.truth}
        if self.core is not None:
            own["core words"] = ", ".join(self.core.locate(one.prompt).words)
        return MaskSheet(one.prompt.text, self.schedule.sigmas[:-1].tolist(), rows, {**said, **own})

    def _pictures(self, prompt: Prompt, trajectory: Trajectory) -> list[np.ndarray]:
        decoded = [to_uint8(image) for image in self.sampler.decode(trajectory.final)]
        pictures = [picture for picture in decoded if picture is not None]
        if len(pictures) < len(decoded):
            raise Incomplete(
                f"{len(decoded) - len(pictures)} of {len(decoded)} rollouts of {prompt.text!r} are not finite",
                "check the weights, and the precision that they run in",
            )
        return pictures

    def _words(self, prompt: Prompt) -> dict[str, list[list[int]]]:
        """The captured columns of the words that each map is made of: all words for the combined one."""
        if self.core is None:
            return {COMBINED: []}
        columns = self.core.columns(prompt)
        if self.settings.every_token:
            return {COMBINED: columns}
        # A prompt may say "combined" itself.
        names = [f'"{word}"' if word == COMBINED else word for word in self.core.locate(prompt).words]
        return {COMBINED: columns, **{name: [own] for name, own in zip(names, columns, strict=True)}}

    def _maps(
        self,
        prompt: Prompt,
        trajectory: Trajectory,
        words: list[list[int]],
        truths: Sequence[np.ndarray | None],
    ) -> np.ndarray:
        """(rollouts, T, H, W)."""
        steps, rollouts, height, width = trajectory.log_prob.shape
        known = [truth for truth in truths if truth is not None]
        evidence = Evidence(
            shape=(steps, rollouts, height, width),
            patch_size=self.policy.transformer.config.patch_size,
            attention=trajectory.attention,
            words=[words] * rollouts,
            masks=torch.from_numpy(np.stack(known)) if self.settings.needs_masks else None,
            seeds=[noise_seed(self.seed, f"{SHUFFLE} {prompt.id}", k) for k in range(rollouts)],
        )
        return allocate(self.settings, evidence).weights.transpose(0, 1).numpy()

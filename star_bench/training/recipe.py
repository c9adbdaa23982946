"""A recipe: everything that decides what a training run does, as YAML, checked before anything is computed.

`extends` names another recipe whose settings are taken where a recipe is silent, so that two methods differ in a file
exactly where they differ. `--set section.key=value` wins over both.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, field_validator, model_validator

from star_bench.catalogue.cards import Strict, did_you_mean, load_yaml, parse, parse_yaml
from star_bench.errors import UsageError
from star_bench.files.digests import digest_of
from star_bench.training.blocks import READS_ATTENTION, with_attention

FOLDER = Path(__file__).parent / "recipes"

AllocationKind = Literal["uniform", "all-ones", "star", "shuffled", "all-tokens", "time-averaged", "joint", "oracle"]
Share = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Block = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
"""What torch takes for a seed."""


class Reward(Strict):
    """A suite whose scorer rewards, on the training prompts that its card names."""

    suite: str
    of: Literal["reward", "score", "both"] = "reward"
    """reward: the suite's training reward in [0, 1], for GenEval the partial credit (Flow-GRPO). score: the suite's own
    score, for GenEval the official verdict, which objects too many don't hurt. both: the mean of the two."""
    weight: float = Field(default=1.0, gt=0)
    """Its share of the epoch's prompts, against the other rewards' weights."""


class RolloutSettings(Strict):
    """How an epoch's pictures are drawn. Height, width, negative prompt and text length are the checkpoint's."""

    prompts: int = Field(ge=1)
    """Distinct prompts (groups) per epoch. Flow-GRPO, SD3.5-M: 48."""
    group_size: int = Field(ge=2)
    """Rollouts per prompt. Flow-GRPO: 24; with 12 or 6 PickScore collapsed in its ablation."""
    steps: int = Field(default=10, ge=2)
    """Denoising steps in training. Flow-GRPO: 10."""
    guidance_scale: float = Field(default=4.5, ge=0)
    """In rollouts and updates alike. Flow-GRPO: 4.5."""
    noise_level: float = Field(default=0.7, gt=0)
    """Flow-GRPO: 0.7."""
    variant: Literal["sde", "cps"] = "sde"
    """Flow-GRPO: sde."""
    window: int | None = Field(default=None, ge=1)
    """Steps that have noise and are trained, contiguous, the rest of the ODE (Flow-GRPO-Fast: 2 or 3). None: noise at
    every step, and int(0.99 steps) of them trained, the first ones (Flow-GRPO: 9 of 10)."""
    window_from: Share = 0.0
    window_to: Share = 0.5
    """The window's first step is drawn anew in every epoch from this part of the schedule. Flow-GRPO-Fast: its first
    half."""
    shared_start: bool = False
    """All rollouts of a prompt begin from one noise, so that only the steps' noise tells them apart. Flow-GRPO: off."""
    batch_size: int = Field(ge=1)
    """Samples per forward, in rollouts and updates alike: equal shapes give equal bits, so that the ratio is exactly 1
    in the first update. Changes memory and time only."""

    @property
    def trained_steps(self) -> int:
        """How many of a rollout's steps are trained."""
        # Flow-GRPO leaves out the last step, which is almost a no-op.
        return self.window if self.window is not None else int(self.steps * 0.99)

    @property
    def first_steps(self) -> range:
        """Where the trained steps may begin, from 0: for a window that is drawn several places."""
        if self.window is None:
            return range(1)
        last = self.steps - self.window
        low, high = (min(last, int(self.steps * part)) for part in (self.window_from, self.window_to))
        return range(low, high + 1)

    @model_validator(mode="after")
    def _window_fits(self) -> RolloutSettings:
        if self.window is not None and self.window > self.steps:
            raise ValueError(f"a window of {self.window} is longer than the {self.steps} steps")
        if self.window_from > self.window_to:
            raise ValueError("window_from lies behind window_to")
        if self.variant == "cps" and self.first_steps[-1] + self.trained_steps == self.steps:
            raise ValueError("this window can reach the last step, where cps has no noise and so nothing to train")
        if self.variant == "cps" and self.noise_level > 1:
            raise ValueError("cps has no noise_level above 1, at which a step's noise is all that the schedule says")
        return self


class AdvantageSettings(Strict):
    std: Literal["global", "group"] = "global"
    """Over which rewards the advantage is normalised. Flow-GRPO: global."""
    clamp: float = Field(default=5.0, gt=0)
    """Flow-GRPO: 5."""


class AllocationSettings(Strict):
    """Where in the latent, and in which step, the advantage goes. STAR as reconstructed here."""

    kind: AllocationKind
    """uniform is scalar Flow-GRPO; the others have a local ratio, and all but star are its controls."""
    blocks: tuple[Block, ...] = ()
    """Joint blocks whose attention is read, from 0. By default, as of tokens and smoothing, the model's own: `attention` in
    checkpoints.yaml or star-bench.yaml."""
    tokens: Literal["clip", "t5", "both"] = "both"
    """Chosen here, where the model says nothing: a word is marked in both parts of the text."""
    mix: Share = 1.0
    """lambda: 1 the map alone, 0 all ones. Chosen here."""
    cap: float = Field(default=5.0, gt=1)
    """Largest weight before the mean is made 1 again. Chosen here."""
    smoothing: float = Field(default=1.0, ge=0)
    """Standard deviation of the Gaussian, in image tokens. Chosen here, where the model says nothing."""

    @field_validator("blocks")
    @classmethod
    def _once(cls, blocks: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(blocks)) != len(blocks):
            raise ValueError("name each block once")
        return blocks

    @model_validator(mode="after")
    def _some(self) -> AllocationSettings:
        if self.kind in READS_ATTENTION and not self.blocks:
            raise ValueError(
                f"nothing says in which blocks the model's attention marks objects, which {self.kind} reads (give "
                "allocation.blocks, or the model's card `attention`, as 'star-bench miniature localise' measures it)"
            )
        return self


class ObjectiveSettings(Strict):
    ratio: Literal["local", "weighted-scalar"] = "local"
    """Of every allocation but uniform, whose ratio is the scalar one. Chosen here."""
    clip_range: float = Field(default=1e-4, gt=0)
    """Flow-GRPO: 1e-4, for the ratio of the mean over the latent; a local ratio's is sqrt(H W) times as wide."""
    kl: float = Field(default=0.04, ge=0)
    """beta. Flow-GRPO, SD3.5-M: 0.04 for GenEval and OCR, 0.01 for PickScore. 0 saves the reference's forward."""
    guard: bool = False
    """GRPO-Guard (arXiv:2510.22319). Flow-GRPO: off."""


class LoraSettings(Strict):
    rank: int = Field(default=32, ge=1)
    """Flow-GRPO: 32."""
    alpha: int = Field(default=64, ge=1)
    """Flow-GRPO: 64."""


class OptimiserSettings(Strict):
    """AdamW, constant learning rate."""

    learning_rate: float = Field(default=3e-4, gt=0)
    """Flow-GRPO: 3e-4."""
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    weight_decay: float = Field(default=1e-4, ge=0)
    """Flow-GRPO: 1e-4."""
    epsilon: float = Field(default=1e-8, gt=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Flow-GRPO: 1."""
    updates_per_epoch: int = Field(default=2, ge=1)
    """Optimiser steps on an epoch's rollouts, each on its own share of them; the first is on-policy. Flow-GRPO: 2."""


class EmaSettings(Strict):
    """An average of what is trained over the updates, which is what is evaluated and saved."""

    decay: Decay = 0.9
    """At most, from (1 + t) / (10 + t) on, t counted in updates. Flow-GRPO: 0.9."""
    every: int = Field(default=8, ge=1)
    """Updates between two averagings. Flow-GRPO: 8, but at another cadence. Its loop (scripts/train_sd3.py) calls it
    once per micro-batch with the number of updates so far, so where one is due it averages the same weights m times, m
    the micro-batches of an update: as once with decay ** m. Here it is once per update, whatever rollout.batch_size is."""


class EvaluationSettings(Strict):
    """Runs of suites during training, at the protocol that `star-bench run` would use, with the averaged weights."""

    suites: tuple[str, ...] = ()
    every: int = Field(default=50, ge=1)
    """Epochs; also before the first and after the last one. Chosen here."""
    samples: int | None = Field(default=None, ge=1)
    steps: int | None = Field(default=None, ge=1)
    """Denoising steps; None: the suite's or the checkpoint's own. For a checkpoint that is trained to be run with few."""
    limit: int | None = Field(default=None, ge=1)
    """Only so many prompts, taken in turn from each tag."""
    seed: Seed = 1000
    """Chosen here: not 0, so that `star-bench run` later judges pictures that no decision in training was made on."""


class GuardSettings(Strict):
    """When a run is stopped because it has gone wrong. All chosen here."""

    log_ratio: float = Field(default=2.0, gt=0)
    """Largest |log ratio| of the mean over the latent that an update may reach. Without this, one update can undo all."""
    kl: float = Field(default=50.0, gt=0)
    """Mean KL to the reference over an epoch."""
    reward_share: Share = 0.5
    """The mean reward of the last `window` epochs against the best such mean: below this share, it has collapsed."""
    window: int = Field(default=20, ge=1)


class MaskSettings(Strict):
    """Pictures of the allocation map during training, for a few fixed prompts."""

    prompts: tuple[str, ...] = ()
    every: int = Field(default=100, ge=1)
    rollouts: int = Field(default=3, ge=1)


class ComputeSettings(Strict):
    """What costs memory or time and changes no mathematics."""

    precision: Literal["checkpoint", "auto", "float32", "float16", "bfloat16"] = "checkpoint"
    """Of the frozen base, the text encoders and forwards; what is trained is float32. checkpoint: as in checkpoints.yaml,
    but float32 on a CPU. auto: bfloat16 where the device multiplies it, else float32. Flow-GRPO: float16, whose
    log-probability error is smaller than bfloat16's."""
    gradient_checkpointing: bool = False
    compile: bool = False
    offload_text_encoders: bool = False
    """Text encoders wait in main memory between the encodings of an epoch's prompts."""
    cached_prompts: int = Field(default=4096, ge=1)
    """Prompts whose embeddings are kept; 1.7 MB each for SD3.5-M in half precision."""


class Recipe(Strict):
    name: str
    title: str
    model: str
    """A name in checkpoints.yaml or the path of a pipeline."""
    rewards: tuple[Reward, ...] = Field(min_length=1)
    epochs: int = Field(ge=1)
    seed: Seed = 0
    rollout: RolloutSettings
    advantage: AdvantageSettings = AdvantageSettings()
    allocation: AllocationSettings
    objective: ObjectiveSettings = ObjectiveSettings()
    lora: LoraSettings | None = LoraSettings()
    """null: all of the transformer's weights are trained, sharded over the processes."""
    optimiser: OptimiserSettings = OptimiserSettings()
    ema: EmaSettings = EmaSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    guards: GuardSettings = GuardSettings()
    masks: MaskSettings = MaskSettings()
    compute: ComputeSettings = ComputeSettings()
    save_every: int = Field(default=10, ge=1)
    """Epochs between two saved states; the last two are kept. Chosen here."""
    note: str = ""

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        suites = [reward.suite for reward in self.rewards]
        if len(set(suites)) != len(suites):
            raise ValueError("a suite rewards twice")
        if len(suites) > self.rollout.prompts:
            raise ValueError("there are fewer prompts per epoch than rewards")
        if self.compute.cached_prompts <= self.rollout.prompts:
            raise ValueError("compute.cached_prompts must be more than an epoch's prompts")
        if twin := self._twin():
            raise ValueError(f"allocation.kind={self.allocation.kind} is {twin}, so it can be no control of it")
        return self

    def _twin(self) -> str | None:
        """The allocation that this one is under another name, and under which of the other settings."""
        asked, local = self.allocation, self.objective.ratio == "local"
        if asked.kind in ("time-averaged", "joint") and self.rollout.trained_steps == 1:
            return "star itself where one step is trained"
        if asked.kind not in ("uniform", "all-ones") and asked.mix == 0:
            return "all-ones itself where allocation.mix is 0"
        if asked.kind == "all-ones" and not local:
            return "uniform itself where objective.ratio is weighted-scalar"
        return None

    def digest(self) -> str:
        """Of everything that can change the outcome: a run goes on only under the recipe that it was begun with.

        The number of epochs, evaluation, masks, guards and how often is saved may change: they alter no update. So may
        `costs`, which change no mathematics.
        """
        return digest_of(self.deciding())

    def deciding(self) -> dict[str, Any]:
        """What the digest is of."""
        free = dict.fromkeys(
            ("epochs", "evaluation", "masks", "guards", "save_every", "title", "note", "compute"), True
        )
        return self.model_dump(mode="json", exclude={**free, "rollout": {"batch_size"}})

    def costs(self) -> dict[str, Any]:
        """What changes memory and time alone, recorded of every session."""
        return {"rollout.batch_size": self.rollout.batch_size, "compute": self.compute.model_dump(mode="json")}


def names() -> list[str]:
    """The recipes that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str, changes: Sequence[str] = ()) -> Recipe:
    """A recipe by its name or the path of a YAML file, with `section.key=value` changes.

    Raises UsageError for an unknown name, a broken file or change, or a wrong value.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        if name not in names():
            raise UsageError(f"there is no recipe named {name!r}", did_you_mean(name, names()))
        path = FOLDER / f"{name}.yaml"
    data = _with_parents(path, ())
    for change in changes:
        _change(data, change)
    if isinstance(allocation := data.get("allocation"), dict) and isinstance(model := data.get("model"), str):
        data["allocation"] = with_attention(allocation, model)
    return parse(Recipe, {"name": path.stem, **data}, str(path))


def _with_parents(path: Path, below: tuple[Path, ...]) -> dict[str, Any]:
    data = load_yaml(path)
    parent = data.pop("extends", None)
    if parent is None:
        return data
    above = FOLDER / f"{parent}.yaml" if str(parent) in names() else path.parent / str(parent)
    if path in below:
        raise UsageError(f"{path} extends itself", "name another recipe")
    return _merged(_with_parents(above, (*below, path)), data)


def _merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """`new` over `old`, section by section."""
    out = dict(old)
    for key, value in new.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = _merged(out[key], value) if both else value
    return out


def _change(data: dict[str, Any], change: str) -> None:
    key, separator, text = change.partition("=")
    if not separator or not key:
        raise UsageError(f"--set {change!r} is no change", "write it as section.key=value")
    try:
        value = parse_yaml(text)
    except (yaml.YAMLError, ValueError) as error:
        problem = getattr(error, "problem", None) or error
        raise UsageError(f"--set {key}: {text!r} is no YAML value ({problem})", "quote or mend it") from None
    *sections, last = key.split(".")
    place = data
    for section in sections:
        place = place.setdefault(section, {})
        if not isinstance(place, dict):
            raise UsageError(f"--set {key}: {section!r} has no parts", "check the key")
    place[last] = value

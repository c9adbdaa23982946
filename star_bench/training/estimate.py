"""What a training run would take: its plan, the memory of each GPU, FLOPs and hours. Nothing is loaded or computed.

Works without any weights on the machine and without a network. Every figure but the plan's is an estimate, and says of
what; none was measured on a GPU.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from star_bench import checkpoints, suites
from star_bench.checkpoints import Checkpoint
from star_bench.errors import UsageError
from star_bench.generation.sampler import CACHED_PROMPTS
from star_bench.shipped import MINIATURE_FOLDER
from star_bench.suites import SuiteCard
from star_bench.training.architecture import (
    Architecture,
    activations,
    architecture_of,
    decode_bytes,
    lora_size,
    transformer_flops,
)
from star_bench.training.evaluation import BATCH_SIZE as EVALUATION_BATCH
from star_bench.training.recipe import Recipe

GB: Final = 1e9
BYTES: Final = {"float32": 4, "float16": 2, "bfloat16": 2}
A100_TFLOPS: Final = 312.0  # dense, float16 or bfloat16: NVIDIA's A100 datasheet
UTILISATION: Final = 0.20
"""Of the peak. Flow-GRPO's own timings come to 0.22 on A800 and 0.14 on H800."""
CUDA_BYTES: Final = 1.0 * GB  # the context and the libraries' workspaces; chosen here
FRAGMENTATION: Final = 0.10  # of what comes and goes, lost between the allocator's blocks; chosen here
JUDGES: Final = {
    # On the GPU, in float32, with a GB or less for their own activations; chosen here.
    "geneval": 3.0 * GB,  # Mask2Former Swin-S 69 M and CLIP ViT-L/14 428 M parameters are 2.0 GB
    "preference": 4.3 * GB,  # PickScore's CLIP ViT-H/14, 986 M parameters, is 3.9 GB
    "ocr": 0.0,  # read on the CPU
}

# The parts of a GPU's memory about which more is said in a dry run.
TRANSFORMER: Final = "transformer, frozen"
EMBEDDINGS: Final = "prompt embeddings"
JUDGING: Final = "judges"
TRAJECTORIES: Final = "kept trajectories of an epoch"
CUDA: Final = "CUDA"
UPDATE: Final = "update: activations"


@dataclass(frozen=True)
class Figure:
    """One line for people or programs. basis: what it is an estimate of, or where it comes from."""

    part: str
    what: str
    value: float | int | str
    unit: str | None = None
    basis: str | None = None


@dataclass(frozen=True)
class Memory:
    """Bytes on each GPU. resident: there all the time. passing: of each phase, of which one is there at a time."""

    resident: dict[str, float]
    passing: dict[str, float]

    @property
    def peak(self) -> float:
        """What a GPU must have."""
        return sum(self.resident.values()) + max(self.passing.values())


@dataclass(frozen=True)
class Cost:
    """TFLOP of the transformer; the VAE, the judges and the text encoders are left out (for SD3.5-Medium at 512 px a
    decoding is 2.5 TFLOP, some 1.5 % of a training picture)."""

    forward: float
    """One sample through the transformer once, without guidance and LoRA."""
    rollout_per_image: float
    update_per_image: float
    """Forward with LoRA, backward, the reference's forward where there is a KL, the second forward of checkpointing."""
    epoch: float
    """If every group can teach; one whose rewards are all equal costs no update."""
    evaluation_per_image: float | None
    """At the protocol of the first evaluation suite; None where there is none."""


@dataclass(frozen=True)
class Plan:
    """Counts of one epoch, over all processes. images: rollouts. trained_steps: of rollout.steps. updates: optimiser
    steps. forwards: of single samples through the transformer, both guidance branches counted, backward not."""

    images: int
    trained_steps: int
    forwards_in_rollouts: int
    forwards_in_updates: int
    updates: int


@dataclass(frozen=True)
class Estimate:
    """tokens: image and text tokens of one sample. lora: modules and parameters."""

    recipe: Recipe
    architecture: Architecture
    precision: str
    processes: int
    tokens: tuple[int, int]
    lora: tuple[int, int]
    plan: Plan
    memory: Memory
    cost: Cost
    uncounted: tuple[str, ...]
    """Suites whose judges' memory isn't known."""

    def hours_per_epoch(self, *, tflops: float = A100_TFLOPS, utilisation: float = UTILISATION) -> float:
        """On `processes` GPUs with such a peak in the precision that is used, in TFLOP/s, at that share of it."""
        return self.cost.epoch / (tflops * utilisation * self.processes) / 3600


def estimate(recipe: Recipe, *, processes: int = 1, device: str = "cuda") -> Estimate:
    """For `processes` GPUs that share an epoch's prompts. device: cpu makes precision "checkpoint" float32.

    Raises MissingWeights for a model of which nothing is known here, Refused for one that is not SD3's, UsageError for an
    unknown model or suite, prompts that can't be shared, or a checkpoint that doesn't say its picture's size.
    """
    rollout, compute = recipe.rollout, recipe.compute
    if rollout.prompts % processes:
        raise UsageError(
            f"{rollout.prompts} prompts can't be shared by {processes} processes",
            "make rollout.prompts a multiple of the number of processes",
        )
    checkpoint = checkpoints.resolve(recipe.model)
    architecture = architecture_of(checkpoint)
    precision = _precision(compute.precision, checkpoint, device)
    height, width, text = _size(checkpoint)
    tokens = architecture.image_tokens(height, width), architecture.clip_tokens + text
    lora = lora_size(architecture, recipe.lora.rank)
    cards = {name: suites.load(name) for name in (*(r.suite for r in recipe.rewards), *recipe.evaluation.suites)}
    judges = {name: _judge_bytes(card) for name, card in cards.items()}
    return Estimate(
        recipe=recipe,
        architecture=architecture,
        precision=precision,
        processes=processes,
        tokens=tokens,
        lora=lora,
        plan=_plan(recipe),
        memory=_memory(
            recipe,
            architecture,
            number_bytes=BYTES[precision],
            size=(height, width),
            tokens=tokens,
            lora=lora[1],
            images=rollout.prompts // processes * rollout.group_size,
            judges=sum(size or 0.0 for size in judges.values()),
            on_gpu=device != "cpu",
        ),
        cost=_cost(recipe, architecture, tokens, cards),
        uncounted=tuple(name for name, size in judges.items() if size is None),
    )


def _branches(recipe: Recipe) -> int:
    return 2 if recipe.rollout.guidance_scale > 1 else 1


def _precision(asked: str, checkpoint: Checkpoint, device: str) -> str:
    if asked != "checkpoint":
        return asked
    return "float32" if device == "cpu" else checkpoint.precision


def _size(checkpoint: Checkpoint) -> tuple[int, int, int]:
    """Height and width in pixels, and T5's tokens."""
    said = checkpoint.generation
    if said.height is None or said.width is None or said.max_sequence_length is None:
        raise UsageError(
            f"{checkpoint.name} doesn't say height, width and max_sequence_length",
            "write them under `generation` in checkpoints.yaml or in the folder's star-bench.yaml",
        )
    return said.height, said.width, said.max_sequence_length


def _plan(recipe: Recipe) -> Plan:
    rollout = recipe.rollout
    images = rollout.prompts * rollout.group_size
    samples = images * _branches(recipe)
    passes = 2 if recipe.objective.kl > 0 else 1  # the policy's and the reference's
    return Plan(
        images=images,
        trained_steps=rollout.trained_steps,
        forwards_in_rollouts=samples * rollout.steps,
        forwards_in_updates=samples * rollout.trained_steps * passes,
        updates=recipe.optimiser.updates_per_epoch,
    )


def _judge_bytes(card: SuiteCard) -> float | None:
    """The shipped judges' files twice over, an allowance for the known others, None for what a plugin brings."""
    shipped = [
        path.stat().st_size
        for name in _shipped_in(card.judges)
        for path in (MINIATURE_FOLDER / name).glob("*.safetensors")
    ]
    return 2.0 * sum(shipped) if shipped else JUDGES.get(card.evaluator)


def _shipped_in(value: Any) -> list[str]:
    """The folders that a card's judges name as {shipped: folder}, at any depth."""
    if not isinstance(value, dict):
        return []
    here = [value["shipped"]] if isinstance(value.get("shipped"), str) else []
    return here + [name for inner in value.values() for name in _shipped_in(inner)]


def _memory(
    recipe: Recipe,
    architecture: Architecture,
    *,
    number_bytes: int,
    size: tuple[int, int],
    tokens: tuple[int, int],
    lora: int,
    images: int,
    judges: float,
    on_gpu: bool,
) -> Memory:
    rollout, compute, config = recipe.rollout, recipe.compute, architecture.transformer
    height, width = size
    channels, rows, columns = architecture.latent_shape(height, width)
    steps = rollout.trained_steps
    latents = channels * (steps + 1 + (steps if recipe.objective.guard else 0))
    per_image = 4 * rows * columns * (latents + 2 * steps)  # and log-probabilities and weights, without channels
    embedding = number_bytes * (sum(tokens[1:]) * config["joint_attention_dim"] + config["pooled_projection_dim"])
    cached = compute.cached_prompts + (CACHED_PROMPTS if recipe.evaluation.suites else 0)
    encoders = number_bytes * sum(architecture.text_encoders.values())
    parts = activations(architecture, image_tokens=tokens[0], text_tokens=tokens[1], number_bytes=number_bytes)
    one = parts.update(checkpointing=compute.gradient_checkpointing, reference=recipe.objective.kl > 0)
    evaluated = EVALUATION_BATCH if recipe.evaluation.suites else 0
    resident = {
        TRANSFORMER: number_bytes * architecture.transformer_numbers,
        "VAE, float32": 4 * architecture.vae,
        "text encoders": 0 if compute.offload_text_encoders else encoders,
        # Parameter, gradient, AdamW's two moments, the average, and what stands aside while the average is evaluated.
        "LoRA, float32, with gradient, AdamW and averages": 6 * 4 * lora,
        EMBEDDINGS: cached * embedding,
        JUDGING: judges,
        TRAJECTORIES: images * per_image,
        CUDA: CUDA_BYTES if on_gpu else 0,
    }
    loose = 1 + (FRAGMENTATION if on_gpu else 0)
    passing = {
        "encoding: text encoders": encoders if compute.offload_text_encoders else 0,
        "rollout: a forward without gradients": loose * rollout.batch_size * _branches(recipe) * parts.forward,
        "decoding": loose * max(rollout.batch_size, evaluated) * decode_bytes(architecture, height=height, width=width),
        UPDATE: loose * rollout.batch_size * _branches(recipe) * one,
    }
    return Memory({k: float(v) for k, v in resident.items()}, {k: float(v) for k, v in passing.items()})


def _cost(recipe: Recipe, architecture: Architecture, tokens: tuple[int, int], cards: dict[str, SuiteCard]) -> Cost:
    rollout, evaluation = recipe.rollout, recipe.evaluation
    flops = transformer_flops(architecture, image_tokens=tokens[0], text_tokens=tokens[1], rank=recipe.lora.rank)
    forward = flops.forward + flops.lora
    update = forward + flops.backward
    if recipe.objective.kl > 0:
        update += flops.forward
    if recipe.compute.gradient_checkpointing:
        update += forward
    branches = _branches(recipe) / 1e12
    drawn, learned = branches * rollout.steps * forward, branches * rollout.trained_steps * update
    evaluated = None
    if evaluation.suites:
        said, own = cards[evaluation.suites[0]].protocol, checkpoints.resolve(recipe.model).generation
        steps = said.steps or own.steps or 0
        scale = own.guidance_scale if said.guidance_scale is None else said.guidance_scale
        evaluated = (2 if (scale or 0) > 1 else 1) * steps * forward / 1e12
    images = rollout.prompts * rollout.group_size
    return Cost(flops.forward / 1e12, drawn, learned, images * (drawn + learned), evaluated)


def dry_run(
    recipe: Recipe,
    *,
    processes: int = 1,
    device: str = "cuda",
    tflops: float = A100_TFLOPS,
    utilisation: float = UTILISATION,
) -> list[dict[str, Any]]:
    """`estimate` as rows of part, what, value, unit and basis, for `--dry-run`. Raises what `estimate` raises.

    tflops, utilisation: of one GPU; for a CPU no hours are said.
    """
    found = estimate(recipe, processes=processes, device=device)
    rows = [*_plan_rows(found), *_memory_rows(found), *_cost_rows(found)]
    if device != "cpu":
        rows += _hour_rows(found, tflops, utilisation)
    return [asdict(row) for row in rows]


def _plan_rows(found: Estimate) -> list[Figure]:
    recipe, plan, rollout = found.recipe, found.plan, found.recipe.rollout
    known = "its files here" if found.architecture.measured else "its published configuration; no files here"
    rewards = ", ".join(f"{reward.suite} x {reward.weight:g}" for reward in recipe.rewards)
    reference = "with the reference's" if recipe.objective.kl > 0 else "no reference"
    return [
        Figure("plan", "recipe", recipe.name, None, recipe.title),
        Figure("plan", "model", recipe.model, None, known),
        Figure("plan", "rewards", rewards),
        Figure("plan", "allocation", recipe.allocation.kind),
        Figure("plan", "processes", found.processes),
        Figure(
            "plan", "images per epoch", plan.images, None, f"{rollout.prompts} prompts x {rollout.group_size} rollouts"
        ),
        Figure("plan", "denoising steps", rollout.steps, None, f"{plan.trained_steps} of them trained"),
        Figure("plan", "forwards in an epoch's rollouts", plan.forwards_in_rollouts, "samples", "guidance included"),
        Figure("plan", "forwards in an epoch's updates", plan.forwards_in_updates, "samples", f"at most; {reference}"),
        Figure("plan", "updates per epoch", plan.updates),
        Figure("plan", "epochs", recipe.epochs, None, f"{recipe.epochs * plan.updates} updates"),
        Figure("plan", "LoRA", found.lora[1], "parameters", f"rank {recipe.lora.rank}, on {found.lora[0]} layers"),
        Figure("plan", "tokens", sum(found.tokens), None, f"image {found.tokens[0]}, text {found.tokens[1]}"),
    ]


def _memory_rows(found: Estimate) -> list[Figure]:
    memory, numbers = found.memory, found.architecture.transformer_numbers
    checkpointing = "with" if found.recipe.compute.gradient_checkpointing else "without"
    unknown = f"; of {', '.join(found.uncounted)} unknown" if found.uncounted else ""
    notes = {
        TRANSFORMER: f"{numbers:,} numbers in {found.precision}",
        JUDGING: f"allowance; each suite's once{unknown}",
        EMBEDDINGS: "as many as are kept at most",
        TRAJECTORIES: "if every group can teach",
        CUDA: "allowance",
        UPDATE: f"one phase at a time; {checkpointing} gradient checkpointing",
    }
    resident = [Figure("memory", k, _gb(v), "GB", notes.get(k)) for k, v in memory.resident.items() if v]
    passing = [
        Figure("memory", k, _gb(v), "GB", notes.get(k, "one phase at a time")) for k, v in memory.passing.items() if v
    ]
    peak = Figure("memory", "peak", _gb(memory.peak), "GB", "estimate: all that stays and the largest phase")
    return [*resident, *passing, peak]


def _gb(value: float) -> float:
    return float(f"{value / GB:.3g}")


def _cost_rows(found: Estimate) -> list[Figure]:
    cost, recipe = found.cost, found.recipe
    update = f"{found.plan.trained_steps} steps: LoRA, backward"
    update += ", reference" if recipe.objective.kl > 0 else ""
    update += ", checkpointing's second forward" if recipe.compute.gradient_checkpointing else ""
    rows = [
        ("one forward of one sample", cost.forward, "counted from the shapes"),
        ("rollout, per image", cost.rollout_per_image, f"{recipe.rollout.steps} steps"),
        ("update, per image", cost.update_per_image, update),
        ("epoch", cost.epoch, "estimate, at most: the transformer alone"),
    ]
    if cost.evaluation_per_image is not None:
        every = f"{', '.join(recipe.evaluation.suites)}, every {recipe.evaluation.every} epochs"
        rows.append(("evaluation, per image", cost.evaluation_per_image, every))
    return [Figure("cost", what, float(f"{value:.4g}"), "TFLOP", basis) for what, value, basis in rows]


def _hour_rows(found: Estimate, tflops: float, utilisation: float) -> list[Figure]:
    hours = found.hours_per_epoch(tflops=tflops, utilisation=utilisation)
    on = f"{found.processes} x {tflops:g} TFLOP/s, {utilisation:.0%} of it used (assumed)"
    total = float(f"{hours * found.recipe.epochs:.3g}")
    return [
        Figure("cost", "epoch", float(f"{hours:.3g}"), "hours", f"estimate: {on}"),
        Figure("cost", "all epochs", total, "hours", "estimate, without evaluations"),
    ]

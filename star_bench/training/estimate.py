"""What a training run would take: its plan, the memory of each GPU, FLOPs and hours. Nothing is loaded or computed.

Works without any weights on the machine and without a network. Every figure but the plan's is an estimate, and says of
what; none was measured on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from star_bench.catalogue import checkpoints, suites
from star_bench.catalogue.checkpoints import Checkpoint
from star_bench.catalogue.shipped import MINIATURE_FOLDER
from star_bench.catalogue.suites import SuiteCard
from star_bench.errors import UsageError
from star_bench.generation.sampler import CACHED_PROMPTS
from star_bench.training.architecture import (
    Architecture,
    activations,
    architecture_of,
    decode_bytes,
    full_size,
    lora_size,
    transformer_flops,
)
from star_bench.training.blocks import check_blocks
from star_bench.training.evaluation import BATCH_SIZE as EVALUATION_BATCH
from star_bench.training.policy import refuse_float16
from star_bench.training.precision import choose_precision
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
    """Forward with any LoRA, backward, the reference's forward where there is a KL, the second forward of checkpointing."""
    epoch: float
    """If every group can teach; one whose rewards are all equal costs no update."""
    evaluation_per_image: float | None
    """At the recipe's evaluation steps, else the first suite's or the checkpoint's, at the guidance of training; None
    where no suite is evaluated."""


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
    """tokens: image and text tokens of one sample. lora: rank, modules and parameters; None where all weights are trained.
    trained: parameters."""

    recipe: Recipe
    architecture: Architecture
    precision: str
    processes: int
    tokens: tuple[int, int]
    lora: tuple[int, int, int] | None
    trained: int
    plan: Plan
    memory: Memory
    cost: Cost
    uncounted: tuple[str, ...]
    """Suites whose judges' memory isn't known."""

    def hours_per_epoch(self, *, tflops: float = A100_TFLOPS, utilisation: float = UTILISATION) -> float:
        """On `processes` GPUs with such a peak in the precision that is used, in TFLOP/s, at that share of it."""
        return self.cost.epoch / (tflops * utilisation * self.processes) / 3600


def estimate(recipe: Recipe, *, processes: int = 1, device: str = "cuda") -> Estimate:
    """For `processes` GPUs that share an epoch's prompts. device: cpu or cuda; precision may depend on it.

    Raises MissingWeights for a model of which nothing is known here, Refused for one that is not SD3's, UsageError for an
    unknown model or suite, prompts that can't be shared, a checkpoint that doesn't say its picture's size, or all
    weights in float16.
    """
    rollout, compute = recipe.rollout, recipe.compute
    if rollout.prompts % processes:
        raise UsageError(
            f"{rollout.prompts} prompts can't be shared by {processes} processes",
            "make rollout.prompts a multiple of the number of processes",
        )
    checkpoint = checkpoints.resolve(recipe.model)
    architecture = architecture_of(checkpoint)
    check_blocks(recipe.allocation.blocks, architecture.transformer["num_layers"], recipe.model)
    precision = choose_precision(compute.precision, checkpoint, device)
    height, width, text = _size(checkpoint)
    tokens = architecture.image_tokens(height, width), architecture.clip_tokens + text
    parameters, block = full_size(architecture)
    if recipe.lora is None:
        refuse_float16(precision)
        rank, lora = None, None
        learned = _full_bytes(architecture, parameters, number_bytes=BYTES[precision], processes=processes)
        # FSDP has two blocks' weights whole, and one's gradient, also in float32 while it is reduced.
        gathered = (3 * BYTES[precision] + 4) * block
    else:
        rank = recipe.lora.rank
        lora = rank, *lora_size(architecture, rank)
        parameters = lora[2]
        # Parameter, gradient, AdamW's two moments, the average, and what stands aside while the average is evaluated.
        learned = {"LoRA, float32, with gradient, AdamW and averages": 6 * 4 * parameters}
        gathered = 0
    cards = {name: suites.load(name) for name in (*(r.suite for r in recipe.rewards), *recipe.evaluation.suites)}
    judges = {name: _judge_bytes(card) for name, card in cards.items()}
    return Estimate(
        recipe=recipe,
        architecture=architecture,
        precision=precision,
        processes=processes,
        tokens=tokens,
        lora=lora,
        trained=parameters,
        plan=_plan(recipe),
        memory=_memory(
            recipe,
            architecture,
            number_bytes=BYTES[precision],
            size=(height, width),
            tokens=tokens,
            learned=learned,
            gathered=gathered,
            images=rollout.prompts // processes * rollout.group_size,
            judges=sum(size or 0.0 for size in judges.values()),
            on_gpu=device != "cpu",
        ),
        cost=_cost(recipe, architecture, tokens, rank=rank),
        uncounted=tuple(name for name, size in judges.items() if size is None),
    )


def _full_bytes(architecture: Architecture, parameters: int, *, number_bytes: int, processes: int) -> dict[str, float]:
    """What training all weights keeps on each GPU beside the frozen transformer."""
    return {
        # Parameter, gradient, AdamW's two moments, the average.
        "a share of the transformer, float32, with gradient, AdamW and average": 5 * 4 * parameters / processes,
        "position table, float32": 4 * (architecture.transformer_numbers - parameters),
        "frozen weights that stand aside while the average is evaluated": number_bytes * parameters,
    }


def _branches(recipe: Recipe) -> int:
    return 2 if recipe.rollout.guidance_scale > 1 else 1


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
    learned: dict[str, float],
    gathered: int,
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
    parts = activations(
        architecture,
        image_tokens=tokens[0],
        text_tokens=tokens[1],
        number_bytes=number_bytes,
        all_weights=recipe.lora is None,
    )
    one = parts.update(checkpointing=compute.gradient_checkpointing, reference=recipe.objective.kl > 0)
    evaluated = EVALUATION_BATCH if recipe.evaluation.suites else 0
    resident = {
        TRANSFORMER: number_bytes * architecture.transformer_numbers,
        "VAE, float32": 4 * architecture.vae,
        "text encoders": 0 if compute.offload_text_encoders else encoders,
        **learned,
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
        UPDATE: loose * (rollout.batch_size * _branches(recipe) * one + gathered),
    }
    return Memory({k: float(v) for k, v in resident.items()}, {k: float(v) for k, v in passing.items()})


def _cost(
    recipe: Recipe,
    architecture: Architecture,
    tokens: tuple[int, int],
    *,
    rank: int | None,
) -> Cost:
    rollout, evaluation = recipe.rollout, recipe.evaluation
    flops = transformer_flops(architecture, image_tokens=tokens[0], text_tokens=tokens[1], rank=rank)
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
        steps = evaluation.steps or checkpoints.resolve(recipe.model).generation.steps or 0
        evaluated = branches * steps * forward
    images = rollout.prompts * rollout.group_size
    return Cost(flops.forward / 1e12, drawn, learned, images * (drawn + learned), evaluated)

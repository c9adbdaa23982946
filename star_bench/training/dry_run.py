"""What `star-bench train --dry-run` prints: the plan, memory and cost of `estimate`, each figure with what it rests on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from star_bench.training.estimate import (
    A100_TFLOPS,
    CUDA,
    EMBEDDINGS,
    GB,
    JUDGING,
    TRAJECTORIES,
    TRANSFORMER,
    UPDATE,
    UTILISATION,
    Estimate,
    estimate,
)
from star_bench.training.recipe import Recipe, RolloutSettings


@dataclass(frozen=True)
class Figure:
    """One line for people or programs. basis: what it is an estimate of, or where it comes from."""

    part: str
    what: str
    value: float | int | str
    unit: str | None = None
    basis: str | None = None


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
    trained = f"rank {found.lora[0]}, on {found.lora[1]} layers" if found.lora else "all of the transformer"
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
        _trained_steps(rollout),
        Figure("plan", "forwards in an epoch's rollouts", plan.forwards_in_rollouts, "samples", "guidance included"),
        Figure("plan", "forwards in an epoch's updates", plan.forwards_in_updates, "samples", f"at most; {reference}"),
        Figure("plan", "updates per epoch", plan.updates),
        Figure("plan", "epochs", recipe.epochs, None, f"{recipe.epochs * plan.updates} updates"),
        Figure("plan", "LoRA" if found.lora else "trained", found.trained, "parameters", trained),
        Figure("plan", "tokens", sum(found.tokens), None, f"image {found.tokens[0]}, text {found.tokens[1]}"),
    ]


def _trained_steps(rollout: RolloutSettings) -> Figure:
    """Which, by their places from 0."""
    places = [_from_to(range(start, start + rollout.trained_steps)) for start in rollout.first_steps]
    drawn = ", drawn in each epoch" if len(places) > 1 else ""
    others = "have noise too" if rollout.window is None else "have no noise"
    basis = f"of {rollout.steps}, counted from 0{drawn}; the other steps {others}"
    return Figure("plan", "trained steps", " or ".join(places), None, basis)


def _from_to(steps: range) -> str:
    return f"{steps[0]} to {steps[-1]}" if len(steps) > 1 else str(steps[0])


def _memory_rows(found: Estimate) -> list[Figure]:
    memory, numbers = found.memory, found.architecture.transformer_numbers
    checkpointing = "with" if found.recipe.compute.gradient_checkpointing else "without"
    gathered = "" if found.lora else ", and the blocks that are gathered"
    unknown = f"; of {', '.join(found.uncounted)} unknown" if found.uncounted else ""
    notes = {
        TRANSFORMER: f"{numbers:,} numbers in {found.precision}",
        JUDGING: f"allowance; each suite's once{unknown}",
        EMBEDDINGS: "as many as are kept at most",
        TRAJECTORIES: "if every group can teach",
        CUDA: "allowance",
        UPDATE: f"one phase at a time; {checkpointing} gradient checkpointing{gathered}",
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
    update = f"{found.plan.trained_steps} steps: forward{' with LoRA' if found.lora else ''}, backward"
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

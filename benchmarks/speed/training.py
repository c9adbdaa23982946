"""What STAR's allocation costs a training, and what the trainer gains over a plain loop: ratios of time and memory.

Only ratios within one run: in each round every variant does the same epoch once, in an order that alternates. Nothing
is learned (learning rate 0), so all variants draw the same pictures but for rounding, and train on the same of them.

    python -m benchmarks.speed.training [--device auto|cpu|cuda] [--rounds N] [--recipe NAME] [--set KEY=VALUE] [--quick]
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.speed.measuring import in_rounds, interval, now, one_thread, setting, table
from benchmarks.speed.plain_loop import Manner, PlainLoop
from benchmarks.speed.random_sd3 import RandomSD3
from star_bench.files.atomic import to_json, write_atomically
from star_bench.generation.quiet import quiet_libraries
from star_bench.runs.progress import Silent
from star_bench.runs.run import choose_device
from star_bench.training import collect as collecting
from star_bench.training import recipe as recipes
from star_bench.training.architecture import SD35_MEDIUM_TRANSFORMER
from star_bench.training.attention import AttentionCapture
from star_bench.training.recipe import Recipe
from star_bench.training.trainer import Trainer

GOALS = {"STAR / uniform": {"cpu": 1.05, "cuda": 1.01}, "plain loop / STAR": {"cpu": 1.5, "cuda": 1.5}}
"""The project's: an epoch takes at most so many times the scalar one's time, and a plain loop at least so many times
STAR's."""
RECIPE = "star-geneval-mini"
SHORT = ("rollout.prompts=4",)
"""Otherwise the sizes are the recipe's own; so few fill whole batches in rollouts and updates as well."""
NO_EXTRAS = ("evaluation.suites=[]", "masks.prompts=[]")
QUICK = ("rollout.prompts=2", "rollout.group_size=4", "rollout.batch_size=4", "rollout.steps=4", "rollout.window=2")
NETWORK_RECIPE = "star-geneval-80gb"
NETWORK_SIDE = 64  # latents of a 512 px picture
TINY_TRANSFORMER = {
    "sample_size": 16,
    "patch_size": 2,
    "in_channels": 4,
    "out_channels": 4,
    "num_layers": 3,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 32,
    "caption_projection_dim": 32,
    "pooled_projection_dim": 16,
    "pos_embed_max_size": 16,
    "dual_attention_layers": (0,),
    "qk_norm": "rms_norm",
}
PLAIN_EVERY = 2
"""Of so many rounds of STAR and uniform, the plain loops take part in one, so that all takes minutes."""
FORWARDS = 5  # recorded and plain ones in a round
LIBRARIES = ("torch", "diffusers", "transformers", "peft", "accelerate")
PARTS = ("text", "rollouts", "decoding", "maps", "judging", "updates")


def plain_manners(half: torch.dtype) -> dict[str, Manner]:
    return {
        f"autocast to {str(half).removeprefix('torch.')}": Manner(half),
        "float32": Manner(None),
        "float32, judging after the rollouts, training on all": Manner(None, drops=False, beside=False),
    }


@dataclass(frozen=True)
class Took:
    """Seconds of an epoch on `now`'s clock, those of the wall, the share of its pictures that were trained on, and its
    parts' seconds on the clocks of the threads that did them."""

    collect: float
    update: float
    wall: float
    trained_on: float = 1.0
    parts: Mapping[str, float] = field(default_factory=dict)
    memory: float = 0.0
    """Peak on the GPU, bytes, where it was looked at."""

    @property
    def epoch(self) -> float:
        return self.collect + self.update


def trainer_of(recipe: Recipe, device: str) -> Trainer:
    """One that learns nothing and writes nothing."""
    trainer = Trainer(recipe, Path("never-written"), device=device, bar=Silent())
    for group in trainer.learner.optimiser.param_groups:
        group["lr"] = 0.0
    return trainer


class TrainerEpochs:
    """The trainer's own epochs, clock in hand."""

    def __init__(self, recipe: Recipe, device: str) -> None:
        self.trainer, self.device = trainer_of(recipe, device), device
        self._seconds: dict[str, float] = defaultdict(float)

    def __call__(self, epoch: int) -> Took:
        self._seconds.clear()
        collected = 0.0
        collect = self.trainer.collector.collect

        def collect_and_mark(*arguments: Any, **options: Any) -> Any:
            nonlocal collected
            result = collect(*arguments, **options)
            collected = now(self.device)
            return result

        with self._parts_timed(), patch.object(self.trainer.collector, "collect", collect_and_mark):
            self.trainer.epoch = epoch
            wall, start = time.perf_counter(), now(self.device)
            metrics = self.trainer.run_epoch()
            end = now(self.device)
        return Took(
            collected - start, end - collected, time.perf_counter() - wall, metrics["kept"], dict(self._seconds)
        )

    @contextmanager
    def _parts_timed(self) -> Iterator[None]:
        trainer = self.trainer
        places: list[tuple[str, object, str]] = [
            ("text", trainer.actor.pipe, "encode_prompt"),
            ("rollouts", collecting, "roll_out"),
            ("decoding", trainer.actor.sampler, "decode"),
            ("maps", collecting, "allocate"),
            ("updates", trainer.learner, "learn"),
            *(("judging", evaluator, "score") for evaluator in trainer.rewards.evaluators),
        ]
        with ExitStack() as stack:
            for part, owner, name in places:
                stack.enter_context(patch.object(owner, name, self._timed(part, getattr(owner, name))))
            yield

    def _timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def clock() -> float:
            """The thread's own: pictures are judged in another one meanwhile."""
            if one_thread(self.device):
                return time.thread_time()
            if part != "judging":  # that thread would wait for the rollouts, and ends with numbers on the CPU anyway
                torch.accelerator.synchronize()
            return time.perf_counter()

        def run(*arguments: Any, **options: Any) -> Any:
            start = clock()
            result = function(*arguments, **options)
            self._seconds[part] += clock() - start
            return result

        return run


def plain_epochs(loop: PlainLoop, device: str) -> Callable[[int], Took]:
    def epoch_of(epoch: int) -> Took:
        wall, start = time.perf_counter(), now(device)
        samples, rewards = loop.collect(epoch)
        collected = now(device)
        trained_on = loop.update(epoch, samples, rewards)
        return Took(collected - start, now(device) - collected, time.perf_counter() - wall, trained_on)

    return epoch_of


def ratios(over: Sequence[Took], under: Sequence[Took]) -> dict[str, Any]:
    """Round by round, `over`'s seconds divided by `under`'s."""
    pairs = list(zip(over, under, strict=True))
    return {
        "rounds": len(pairs),
        **{
            name: interval([getattr(a, name) / getattr(b, name) for a, b in pairs])
            for name in ("epoch", "collect", "update", "wall")
        },
        "trained on": median(took.trained_on for took in over),
    }


def shares(epochs: Sequence[Took], device: str) -> dict[str, dict[str, float]]:
    """Part -> its share of an epoch; what is left is `rest`. On the wall clock judging lies beside the others, so that
    only waiting for it counts there, in `rest`."""
    out: dict[str, list[float]] = defaultdict(list)
    for took in epochs:
        for part in PARTS:
            out[part].append(took.parts.get(part, 0.0) / took.epoch)
        known = [part for part in PARTS if part != "judging" or one_thread(device)]
        out["rest"].append(1 - sum(out[part][-1] for part in known))
    return {part: interval(values) for part, values in out.items()}


def recorded_forward(
    forward: Callable[[AttentionCapture | None], None], capture: AttentionCapture, device: str, rounds: int
) -> dict[str, Any]:
    """The time of forwards whose attention is recorded over that of those in which it isn't."""

    def several(what: AttentionCapture | None) -> Callable[[int], float]:
        def run(_round: int) -> float:
            start = now(device)
            for _ in range(FORWARDS):
                forward(what)
            return now(device) - start

        return run

    took = in_rounds({"plain": several(None), "recorded": several(capture)}, rounds)
    return {
        "rounds": rounds,
        "forwards": FORWARDS,
        **interval([a / b for a, b in zip(took["recorded"], took["plain"], strict=True)]),
    }


def miniature_forward(trainer: Trainer) -> Callable[[AttentionCapture | None], None]:
    """Forwards of a rollout's batch."""
    actor, size = trainer.actor, trainer.recipe.rollout.batch_size
    core, policy = actor.core, actor.policy
    assert core is not None
    asked = trainer.rewards.prompts_of(seed=0, epoch=0, count=1)[0].prompt
    conditioning, positions = actor.encode([asked.text] * size), core.positions([asked] * size)
    shape = actor.sampler.latent_shape
    x, sigma = torch.zeros(size, *shape, device=actor.device), torch.ones(size)

    @torch.no_grad()
    def forward(capture: AttentionCapture | None) -> None:
        if capture is None:
            policy.velocity(x, sigma, conditioning)
            return
        with capture.recording(positions, policy.image_tokens(shape), policy.conditional_rows(size)):
            policy.velocity(x, sigma, conditioning)

    return forward


# Memory.


def peak(recipe: Recipe, device: str) -> dict[str, float]:
    """MiB, of one epoch in this process, which must be fresh: the whole process's on a CPU, torch's tensors on a GPU;
    and how much of it came with the epoch itself."""
    quiet_libraries()
    trainer = trainer_of(recipe, device)

    def highest() -> float:
        if device == "cuda":
            return torch.cuda.max_memory_allocated() / 2**20
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10

    loaded = highest()
    trainer.run_epoch()
    return {"peak": highest(), "of the epoch": highest() - loaded}


def peaks(recipe_of: Mapping[str, Recipe], device: str, rounds: int) -> dict[str, Any]:
    """Each in processes of its own. To be called before anything big is loaded here: Linux hands a process's peak down
    to what it starts."""

    def fresh(recipe: Recipe) -> Callable[[int], dict[str, float]]:
        def run(_round: int) -> dict[str, float]:
            spawn = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, mp_context=spawn) as pool:
                return pool.submit(peak, recipe, device).result()

        return run

    took = in_rounds({name: fresh(recipe) for name, recipe in recipe_of.items()}, rounds, warm=True)
    pairs = list(zip(took["STAR"], took["uniform"], strict=True))
    return {"rounds": rounds, **{what: interval([a[what] / b[what] for a, b in pairs]) for what in pairs[0][0]}}


# SD3.5-Medium's size.


def network(device: str, rounds: int, *, tiny: bool) -> dict[str, Any]:
    """STAR over uniform for one batch of the network alone: rollouts, maps and one update."""
    recipe = recipes.load(NETWORK_RECIPE, (*QUICK, "allocation.blocks=[1]") if tiny else ())
    dtype = torch.float32 if device == "cpu" else torch.float16
    config, side = (TINY_TRANSFORMER, 16) if tiny else (SD35_MEDIUM_TRANSFORMER, NETWORK_SIDE)
    model = RandomSD3(recipe, config, side, device=device, dtype=dtype)

    def epochs(kind: str) -> Callable[[int], Took]:
        def run(_round: int) -> Took:
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            wall, start = time.perf_counter(), now(device)
            drawn = model.collect(kind)
            collected = now(device)
            model.update(kind, *drawn)
            updated = now(device)
            memory = torch.cuda.max_memory_allocated() if device == "cuda" else 0
            return Took(collected - start, updated - collected, time.perf_counter() - wall, memory=memory)

        return run

    took = in_rounds({"star": epochs("star"), "uniform": epochs("uniform")}, rounds)
    capture = AttentionCapture(model.policy.transformer, recipe.allocation.blocks)
    forward = recorded_forward(model.forward, capture, device, rounds)
    capture.remove()
    pairs = list(zip(took["star"], took["uniform"], strict=True))
    memory = interval([a.memory / b.memory for a, b in pairs]) if device == "cuda" else None
    return {
        "size": "tiny" if tiny else "SD3.5-Medium, 512 px, random weights",
        "recipe": recipe.name,
        "batch": recipe.rollout.batch_size,
        "STAR / uniform": ratios(took["star"], took["uniform"]),
        "recorded / plain forward": forward,
        "peak memory": memory and {"rounds": rounds, "peak": memory},
    }


def measure(star: Recipe, device: str, rounds: int, *, quick: bool) -> dict[str, Any]:
    uniform = uniform_of(star)
    memory = peaks({"STAR": star, "uniform": uniform}, device, rounds=max(1, rounds // 3))
    variants = {"STAR": TrainerEpochs(star, device), "uniform": TrainerEpochs(uniform, device)}
    pair = in_rounds(variants, rounds)
    # The plain loops' weights are float32 also where the trainer's are not.
    full = trainer_of(with_changes(uniform, compute={"precision": "float32"}), device)
    half = torch.bfloat16 if device == "cpu" else torch.float16  # float16 is slow on a CPU
    loops = {name: plain_epochs(PlainLoop(full, manner), device) for name, manner in plain_manners(half).items()}
    all_loops: dict[str, Callable[[int], Took]] = {"STAR": variants["STAR"], **loops}
    against = in_rounds(all_loops, max(1, rounds // PLAIN_EVERY))
    trainer = variants["STAR"].trainer
    capture = trainer.actor.capture
    assert capture is not None
    forward = recorded_forward(miniature_forward(trainer), capture, device, rounds)
    rollout = star.rollout
    return {
        **setting(device, LIBRARIES, {name: of_device[device] for name, of_device in GOALS.items()}),
        "recipe": star.name,
        "quick": quick,
        "pictures": rollout.prompts * rollout.group_size,
        "rollout": rollout.model_dump(mode="json"),
        "trained on": median(took.trained_on for took in against["STAR"]),
        "STAR / uniform": ratios(pair["STAR"], pair["uniform"]),
        "plain loop / STAR": {name: ratios(against[name], against["STAR"]) for name in loops},
        "recorded / plain forward": forward,
        "peak memory": memory,
        "shares": {name: shares(took, device) for name, took in pair.items()},
        "network": network(device, rounds, tiny=device == "cpu") if quick or device == "cuda" else None,
    }


def with_changes(recipe: Recipe, **sections: Mapping[str, Any]) -> Recipe:
    data = recipe.model_dump(mode="json")
    return Recipe.model_validate(data | {name: data[name] | change for name, change in sections.items()})


def uniform_of(star: Recipe) -> Recipe:
    """The same with a scalar ratio and no map: Flow-GRPO."""
    return with_changes(star, allocation={"kind": "uniform"})


# In words.


def to_markdown(result: dict[str, Any]) -> str:
    clock, goal, rollout = result["clock"], result["goal"], result["rollout"]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    cpu_time = " of the whole process, the judging thread included" if clock == "CPU time" else ""
    timed = ("epoch", "collect", "update", "wall")
    head = [f"epoch, {clock}", f"collect, {clock}", f"update, {clock}", "epoch, wall clock"]

    def figure(values: Mapping[str, float], form: str = ".3f") -> str:
        return f"{values['median']:{form}} ({values['low']:{form}} to {values['high']:{form}})"

    def times(row: dict[str, Any], form: str = ".3f") -> list[str]:
        return [str(row["rounds"]), *(figure(row[name], form) for name in timed)]

    def cost(case: dict[str, Any]) -> str:
        forward, memory = case["recorded / plain forward"], case["peak memory"]
        rows = [[f"one forward, recorded over plain, {clock}", str(forward["rounds"]), figure(forward)]]
        for what, name in (("peak", "peak memory"), ("of the epoch", "peak memory above that after loading")):
            if memory and what in memory:
                rows.append([name, str(memory["rounds"]), figure(memory[what])])
        return (
            table(["rounds", *head], [times(case["STAR / uniform"])])
            + "\n"
            + table(["", "rounds", "STAR / uniform"], rows)
        )

    plain = [
        [name, *times(row, ".2f"), f"{row['trained on']:.0%}"] for name, row in result["plain loop / STAR"].items()
    ]
    parts = [*PARTS, "rest"]
    return (
        f"# Training: speed on {result['device']}\n\n"
        + ("**A quick look: too small and too short to judge anything by.**\n\n" if result["quick"] else "")
        + f"{versions}. Written by `python -m benchmarks.speed.training`. Ratios of {clock}{cpu_time}, and of the wall "
        "clock, which on a shared machine says little: median over the rounds (95 % bootstrap interval).\n\n"
        f"An epoch of {result['recipe']}: {result['pictures']} pictures of {rollout['prompts']} prompts, "
        f"{rollout['steps']} steps, batches of {rollout['batch_size']}. collect: text, rollouts, decoding, judging, maps; "
        "update: advantages and optimiser steps. Not loading, evaluation and saving.\n\n"
        f"## STAR over uniform allocation (scalar Flow-GRPO); goal: at most {goal['STAR / uniform']:.2f}\n\n"
        + cost(result)
        + f"\n## A plain loop over STAR; goal: at least {goal['plain loop / STAR']:.1f}\n\n"
        "How many times the pictures per second of a plain Flow-GRPO loop (benchmarks/speed/plain_loop.py) the trainer "
        "makes. Last column: the share of pictures that the loop trained on; the trainer's was "
        f"{result['trained on']:.0%}.\n\n"
        + table(["loop", "rounds", *head, "trained on"], plain)
        + "\n## Where the time of an epoch goes\n\n"
        + table(
            ["", *parts],
            [[name, *(figure(of_parts[part], ".1%") for part in parts)] for name, of_parts in result["shares"].items()],
        )
        + "\n## SD3.5-Medium's size\n\n"
        + (network_words(result["network"], cost) if result["network"] else "Not measured: it needs a GPU.\n")
    )


def network_words(case: dict[str, Any], cost: Callable[[dict[str, Any]], str]) -> str:
    return (
        f"{case['size']}: rollouts, maps and one update of a batch of {case['batch']}, sized as {case['recipe']}; no text "
        "encoder, no VAE, no judge.\n\n" + cost(case)
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.training", description=__doc__.partition("\n")[0])
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--recipe", default=RECIPE)
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--quick", action="store_true", help="one tiny round, to see that it works; writes nothing")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    quiet_libraries()
    device = choose_device(options.device)
    sizes = QUICK if options.quick else SHORT
    recipe = recipes.load(options.recipe, [*NO_EXTRAS, *sizes, *options.changes])
    result = measure(recipe, device, 1 if options.quick else options.rounds, quick=options.quick)
    text = to_markdown(result)
    sys.stdout.write(text)
    if not options.quick:
        write_atomically(options.out / f"training-{device}.json", to_json(result))
        write_atomically(options.out / f"training-{device}.md", text.encode())


if __name__ == "__main__":
    main()

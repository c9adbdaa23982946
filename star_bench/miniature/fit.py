"""The one training loop of the miniature's parts: seeded, checkpointed, resumable, with an EMA."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from star_bench.errors import UsageError

CHECKPOINT_EVERY_S = 60.0  # chosen here: a minute's work is the most that a kill may cost
LOG_EVERY = 100


@dataclass(frozen=True)
class Recipe:
    """How one part is trained. Linear warm-up, constant, then linear decay to zero over the last `decay` of all steps.

    With `muon_lr`, Muon (momentum .95, Nesterov, weight decay .02) takes the 2-D matrices that are no embeddings
    and no output projection, and AdamW the rest. On this world, after equal time on one core, the prototype's
    validation loss was .201 with Muon at .02 and .300 with AdamW alone (one seed).
    """

    steps: int
    batch: int
    adam_lr: float = 1.5e-3
    muon_lr: float | None = None
    warmup: int = 60
    decay: float = 0.4
    clip: float = 1.0
    ema: float = 0.998
    stop: int | None = None
    """Ends the training at this step, before the schedule does: a part that shall be imperfect on purpose."""

    @property
    def last(self) -> int:
        """How many steps are taken."""
        return min(self.steps, self.stop or self.steps)

    def factor(self, step: int) -> float:
        """The learning rate's factor in 0..1 at a step."""
        remaining = (self.steps - step) / max(1.0, self.decay * self.steps)
        return min(1.0, (step + 1) / self.warmup, remaining)


def _optimizers(model: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    inner = {
        id(module.weight)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and "proj_out" not in name
    }
    trained = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in trained if recipe.muon_lr and id(p) in inner]
    rest = [p for p in trained if not (recipe.muon_lr and id(p) in inner)]
    out: list[torch.optim.Optimizer] = [torch.optim.AdamW(rest, recipe.adam_lr, (0.9, 0.98), weight_decay=1e-4)]
    if matrices and recipe.muon_lr:
        if not hasattr(torch.optim, "Muon"):
            raise UsageError(f"torch {torch.__version__} has no Muon", "install torch 2.9 or newer to train")
        out.append(torch.optim.Muon(matrices, recipe.muon_lr, weight_decay=0.02))
    return out


def _write_atomically(path: Path, state: dict[str, Any]) -> None:
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)


def fit(
    name: str,
    model: nn.Module,
    loss: Callable[[np.random.Generator, int], Tensor],
    recipe: Recipe,
    folder: Path,
    *,
    seed: int,
    device: torch.device,
) -> list[tuple[int, float]]:
    """Trains `model` in place and leaves its EMA weights in it.

    loss(rng, batch) draws a batch from `rng` and returns the scalar loss; the generator of a step depends on
    (seed, step) alone, so a training that was interrupted goes on with the batches that it would have had.
    Returns the curve, a list of (step, mean loss since the last entry).
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.pt"
    console = Console(stderr=True)
    model.to(device).train()
    optimizers = _optimizers(model, recipe)
    average = {k: v.detach().clone() for k, v in model.state_dict().items()}
    start, curve = 0, []
    if path.exists():
        state = torch.load(path, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        average, start, curve = state["average"], state["step"], [tuple(c) for c in state["curve"]]
        console.print(f"{name}: goes on at step {start} of {recipe.last}")

    def save(step: int) -> None:
        saved = [optimizer.state_dict() for optimizer in optimizers]
        state = {"model": model.state_dict(), "optimizers": saved, "average": average, "step": step, "curve": curve}
        _write_atomically(path, state)

    rates = (recipe.adam_lr, recipe.muon_lr or 0.0)  # in the order of `_optimizers`
    running, since, last_save = [], time.monotonic(), time.monotonic()
    for step in range(start, recipe.last):
        rng = np.random.default_rng([seed, step])
        torch.manual_seed(int(rng.integers(2**62)))
        for optimizer, rate in zip(optimizers, rates, strict=False):
            for group in optimizer.param_groups:
                group["lr"] = rate * recipe.factor(step)
        value = loss(rng, recipe.batch)
        value.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        if not torch.isfinite(norm):
            raise FloatingPointError(f"{name}: the gradient is not finite at step {step}")
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            decay = min(recipe.ema, (step + 1) / (step + 10))
            for key, weight in model.state_dict().items():
                if weight.is_floating_point():
                    average[key].lerp_(weight, 1 - decay)
                else:
                    average[key].copy_(weight)
        running.append(value.detach())
        if (step + 1) % LOG_EVERY == 0 or step + 1 == recipe.last:
            mean = float(torch.stack(running).mean())
            rate = len(running) * recipe.batch / (time.monotonic() - since)
            curve.append((step + 1, round(mean, 5)))
            left = (recipe.last - step - 1) * recipe.batch / rate / 60
            console.print(
                f"{name}: step {step + 1}/{recipe.last} loss {mean:.4f} {rate:.0f} samples/s {left:.1f} min left"
            )
            running, since = [], time.monotonic()
        if time.monotonic() - last_save > CHECKPOINT_EVERY_S or step + 1 == recipe.last:
            save(step + 1)
            last_save = time.monotonic()
    model.load_state_dict(average)
    model.eval()
    (folder / f"{name}.curve.json").write_text(json.dumps(curve))
    return curve

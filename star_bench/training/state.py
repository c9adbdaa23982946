"""What a training run needs to go on exactly: written beside its place and renamed, the last two kept.

Rollouts, prompts and their order are functions of the seed and the epoch, so the state holds no random stream: only the
weights that are trained, their average, the optimiser's moments and a few numbers. safetensors and JSON, no pickle.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from star_bench.errors import Refused
from star_bench.files.atomic import disk_error, to_json
from star_bench.files.digests import sha256_of
from star_bench.files.json import parse_json
from star_bench.training.sharding import spread, whole

KEPT = 2
TENSORS = "tensors.safetensors"
NUMBERS = "state.json"


@dataclass(frozen=True)
class State:
    """After `epoch` whole epochs. tensors: by name, on the CPU. numbers: plain data."""

    epoch: int
    tensors: dict[str, Tensor]
    numbers: dict[str, Any]


def save(folder: Path, state: State) -> None:
    """Adds the state to the folder and removes all but the last two. Raises DiskError; what was there is intact then."""
    place, partial = folder / f"{state.epoch:06d}", folder / f".{state.epoch:06d}.partial"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_file({name: tensor.contiguous() for name, tensor in state.tensors.items()}, partial / TENSORS)
        said = {"epoch": state.epoch, "tensors_sha256": sha256_of(partial / TENSORS), "numbers": state.numbers}
        (partial / NUMBERS).write_bytes(to_json(said))
        for path in (partial / TENSORS, partial / NUMBERS, partial):
            _sync(path)
        shutil.rmtree(place, ignore_errors=True)
        os.replace(partial, place)
        _sync(folder)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise disk_error(place, error) from None
    except SafetensorError as error:  # how safetensors reports a full disk
        shutil.rmtree(partial, ignore_errors=True)
        raise disk_error(place, OSError(str(error))) from None
    for old in _places(folder)[:-KEPT]:
        shutil.rmtree(old)


def latest(folder: Path, note: Callable[[str], None]) -> State | None:
    """The newest whole state; None where there is none yet. A damaged one is passed over with a note.

    Raises Refused where there are states and none is whole.
    """
    places = _places(folder)
    for place in reversed(places):
        try:
            return _read(place)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            note(f"the saved state {place} is damaged ({error}); going back to the one before")
    if places:
        raise Refused(f"no saved state in {folder} is whole", "remove that folder to begin anew, or restore a copy")
    return None


def _read(place: Path) -> State:
    said = parse_json((place / NUMBERS).read_bytes())
    digest = sha256_of(place / TENSORS)
    if digest != said["tensors_sha256"]:
        raise ValueError(f"its tensors have sha256 {digest[:12]}..., not {said['tensors_sha256'][:12]}...")
    return State(said["epoch"], load_file(place / TENSORS), said["numbers"])


def _places(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("[0-9]*") if path.is_dir()) if folder.is_dir() else []


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def optimiser_tensors(optimiser: torch.optim.Optimizer, names: list[str]) -> dict[str, Tensor]:
    """The optimiser's state as flat tensors, `name/exp_avg` and so on; names: of its parameters, in its order."""
    found = optimiser.state_dict()["state"]
    return {
        f"{names[index]}/{key}": whole(torch.as_tensor(value).detach()).cpu()
        for index, entries in found.items()
        for key, value in entries.items()
    }


def restore_optimiser(
    optimiser: torch.optim.Optimizer, parameters: Mapping[str, Tensor], tensors: dict[str, Tensor]
) -> None:
    """The inverse of `optimiser_tensors`. parameters: the optimiser's, by name and in its order."""
    place = {name: index for index, name in enumerate(parameters)}
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        name, _, entry = key.rpartition("/")
        moment = tensor.shape == parameters[name].shape and tensor.ndim > 0  # and not a number of steps
        state.setdefault(place[name], {})[entry] = spread(tensor, parameters[name]) if moment else tensor
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})

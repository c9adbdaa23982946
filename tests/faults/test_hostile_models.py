"""Checkpoints, adapters and remembered files that run code when they are read by a careless reader."""

from __future__ import annotations

import json
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from figures import Row, count, publish
from processes import SMALL, call
from safetensors.torch import load_file, save_file
from stored import one_run
from stores import copy_of, file_of

from star_bench.assets.model_files import locate
from star_bench.catalogue.checkpoints import resolve
from star_bench.catalogue.shipped import PACKAGE
from star_bench.errors import StarBenchError
from star_bench.generation.pipeline import load

MINIATURE = PACKAGE / "miniature" / "weights" / "pipeline"


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (Path.touch, (self.marker,))


def poison(path: Path, marker: Path) -> Path:
    """A pickle of the kind that the file's ending promises."""
    path.parent.mkdir(parents=True, exist_ok=True)
    payload = Payload(marker)
    if path.suffix == ".npy":
        with path.open("wb") as file:
            np.save(file, np.array([payload], dtype=object), allow_pickle=True)
    elif path.suffix in (".pt", ".bin", ".pth", ".ckpt"):
        torch.save({"weight": payload}, path)
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(payload))
    else:
        path.write_bytes(pickle.dumps(payload))
    return path


def copy(folder: Path) -> Path:
    return Path(shutil.copytree(MINIATURE, folder))


def change(path: Path, **news: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | news))


def weights(folder: Path) -> Path:
    return next((folder / "transformer").glob("*.safetensors"))


def pickled_only(folder: Path, marker: Path) -> None:
    weights(folder).unlink()
    poison(folder / "transformer" / "diffusion_pytorch_model.bin", marker)


def pickle_inside(folder: Path, marker: Path) -> None:
    place = weights(folder)
    place.unlink()
    poison(folder / "x.pkl", marker).rename(place)


def longer_than_the_file(folder: Path, _: Path) -> None:
    weights(folder).write_bytes(struct.pack("<Q", 2**62) + b"{}")


def overlapping(folder: Path, _: Path) -> None:
    head = json.dumps({n: {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} for n in "ab"}).encode()
    weights(folder).write_bytes(struct.pack("<Q", len(head)) + head + bytes(16))


def module_of_its_own(folder: Path, marker: Path) -> None:
    (folder / "transformer" / "mine.py").write_text(f"open({str(marker)!r}, 'w')\n")
    change(folder / "model_index.json", transformer=["mine", "Mine"])


def module_beside(folder: Path, marker: Path) -> None:
    (folder / "transformer" / "mine.py").write_text(f"open({str(marker)!r}, 'w')\n")


def another_library(folder: Path, _: Path) -> None:
    change(folder / "model_index.json", extra=["antigravity", "geohash"])


def pipeline_of_its_own(folder: Path, marker: Path) -> None:
    (folder / "mine.py").write_text(f"open({str(marker)!r}, 'w')\n")
    change(folder / "model_index.json", _class_name=["mine", "Mine"])


def unknown_pipeline(folder: Path, _: Path) -> None:
    change(folder / "model_index.json", _class_name="system")


def auto_map(folder: Path, marker: Path) -> None:
    (folder / "mine.py").write_text(f"open({str(marker)!r}, 'w')\n")
    change(folder / "vae" / "config.json", auto_map={"AutoModel": "mine.Mine"})


def unhashable(folder: Path, _: Path) -> None:
    change(folder / "model_index.json", transformer=[["os"], {}])


def wrong_class(folder: Path, _: Path) -> None:
    change(folder / "transformer" / "config.json", _class_name="os.system", num_layers="many")


def nested(folder: Path, _: Path) -> None:
    (folder / "model_index.json").write_text("[" * 100_000)


def shard_elsewhere(folder: Path, _: Path) -> None:
    index = folder / "transformer" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../../../etc/passwd"}}))


FOLDERS = (
    *(pickled_only, pickle_inside, longer_than_the_file, overlapping, module_of_its_own, module_beside),
    *(another_library, pipeline_of_its_own, unknown_pipeline, auto_map, unhashable, wrong_class, nested),
    shard_elsewhere,
)


def refusal(path: Path) -> str | None:
    """None where the checkpoint is refused with one sentence; else what happened."""
    try:
        load(locate(resolve(str(path), base="miniature"), fetch=False), dtype="float32", device="cpu")
    except StarBenchError as error:
        good = error.exit_code in (2, 4) and "\n" not in str(error)
        return None if good else f"exit {error.exit_code}: {error}"
    except Exception as error:  # noqa: BLE001 - what is looked for
        return f"{type(error).__name__}: {error}"
    return "loaded"


def test_checkpoints_that_would_run_code_or_lie_are_refused(tmp_path: Path) -> None:
    marker, failures, tried = tmp_path / "marker", [], 0
    endings = (".pt", ".bin", ".pkl", ".pth", ".ckpt", ".npy", ".zip", ".safetensors")
    for path in [poison(tmp_path / "files" / f"model{ending}", marker) for ending in endings]:
        tried += 1
        if wrong := refusal(path):
            failures.append(f"{path.name}: {wrong}")
    for spoil in FOLDERS:
        folder = copy(tmp_path / spoil.__name__)
        spoil(folder, marker)
        tried += 1
        if wrong := refusal(folder):
            failures.append(f"{spoil.__name__}: {wrong}")
    if marker.exists():
        failures.append("a payload ran")
    held = tried - len(failures)
    publish(
        Row(
            "inputs",
            "hostile checkpoints",
            "refused with one sentence; nothing in them runs",
            tried,
            held,
        ),
        failures,
    )


def adapter(folder: Path) -> Path:
    """A PEFT LoRA that fits the miniature."""
    from peft import LoraConfig, get_peft_model_state_dict

    pipe = load(locate(resolve("miniature"), fetch=False), dtype="float32", device="cpu")
    config = LoraConfig(r=2, target_modules=["to_q"])
    pipe.transformer.add_adapter(config, adapter_name="default")
    state = get_peft_model_state_dict(pipe.transformer, adapter_name="default", save_embedding_layers=False)
    folder.mkdir()
    save_file({f"base_model.model.{k}": v.contiguous() for k, v in state.items()}, folder / "adapter_model.safetensors")
    said = config.to_dict() | {"target_modules": ["to_q"], "base_model_name_or_path": "miniature"}
    (folder / "adapter_config.json").write_text(json.dumps(said, default=str))
    return folder


def test_adapters_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    good, marker = adapter(tmp_path / "good"), tmp_path / "marker"
    assert refusal(good) == "loaded"
    state = load_file(good / "adapter_model.safetensors")
    first = next(iter(state))
    broken = {
        "wrong shape": state | {first: torch.zeros(3, 5)},
        "NaN": state | {first: torch.full_like(state[first], torch.nan)},
        "infinite": state | {first: torch.full_like(state[first], torch.inf)},
        "no key that fits": {f"other.{key}": value for key, value in state.items()},
        "a key too few": {key: value for key, value in state.items() if key != first},
        "no tensor": {},
    }
    failures, tried = [], 0
    for name, tensors in broken.items():
        folder = Path(shutil.copytree(good, tmp_path / name))
        save_file(tensors, folder / "adapter_model.safetensors")
        tried += 1
        if wrong := refusal(folder):
            failures.append(f"{name}: {wrong}")
    for name, config in {"kind": {"peft_type": "SYSTEM"}, "rank": {"r": "x"}, "targets": {"target_modules": 7}}.items():
        folder = Path(shutil.copytree(good, tmp_path / name))
        change(folder / "adapter_config.json", **config)
        tried += 1
        if wrong := refusal(folder):
            failures.append(f"{name}: {wrong}")
    only_pickled = Path(shutil.copytree(good, tmp_path / "pickled"))
    (only_pickled / "adapter_model.safetensors").unlink()
    poison(only_pickled / "adapter_model.bin", marker)
    lying = Path(shutil.copytree(good, tmp_path / "lying"))
    (lying / "adapter_model.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}")
    for folder in (only_pickled, lying):
        tried += 1
        if wrong := refusal(folder):
            failures.append(f"{folder.name}: {wrong}")
    if marker.exists():
        failures.append("a payload ran")
    held = tried - len(failures)
    publish(
        Row(
            "inputs",
            "hostile adapters",
            "refused with one sentence; nothing in them runs",
            tried,
            held,
        ),
        failures,
    )


def test_poisoned_pickles_never_run(tmp_path: Path, undisturbed: tuple[Path, float]) -> None:
    """As weights, in the cache, among results: whole commands, in processes of their own."""
    marker, failures = tmp_path / "marker", []
    poisoned = pickle.dumps(Payload(marker))
    attempts: list[tuple[str, tuple[str, ...], dict[str, str], tuple[int, ...]]] = []
    poison(tmp_path / "model.pt", marker)
    attempts.append(("weights", ("run", "--model", str(tmp_path / "model.pt"), *SMALL[2:]), {}, (2, 4)))
    cache = tmp_path / "cache"
    cache.mkdir()
    for name in ("pins.json", "digests.json"):
        (cache / name).write_bytes(poisoned)
    attempts.append(("cache", ("run", *SMALL), {"STAR_BENCH_CACHE": str(cache)}, (2, 4)))
    done = one_run(undisturbed[0])
    names = ("results.json", "samples.jsonl", "manifest.json", "scores.jsonl", "values.jsonl")
    for name in names[: count(quick=1, full=len(names))]:
        run = copy_of(done, tmp_path / "runs" / name)
        file_of(run, name).write_bytes(poisoned + b"\n")
        attempts.append((name, ("verify", str(run)), {}, (2, 3, 4)))
    for name, words, more, codes in attempts:
        got = call(tmp_path, *words, **more)
        if got.returncode not in codes or "Traceback" in got.stderr:
            failures.append(f"{name}: exit {got.returncode}: {got.stderr[-300:]}")
    if marker.exists():
        failures.append("a payload ran")
    tried = len(attempts)
    held = tried - len(failures)
    publish(
        Row("inputs", "poisoned pickle as weights, cache, results", "never executed", tried, held),
        failures,
    )


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAR_BENCH_CACHE", str(tmp_path / "remembered"))
